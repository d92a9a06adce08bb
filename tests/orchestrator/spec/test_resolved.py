"""What a spec resolves to: short forms opened, defaults filled in, and the same again when it is read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import SpecError
from orchestrator.runs.kept_spec import as_yaml
from orchestrator.spec import Spec, load_spec
from orchestrator.spec.load import change_resources
from orchestrator.spec.sections import CurriculumSection, Stage
from tests.orchestrator.specs import EXAMPLES, flat, small

BOOK = {"environments": {"book": {"type": "codebook"}}}
QWEN = {"policy": {"model": "Qwen/Qwen2.5-3B", "dtype": "bfloat16"}, "sampler": {"max_tokens": 512}, **BOOK}

SPECS: dict[str, Any] = {
    "least": BOOK,
    "qwen": QWEN,
    "small": small(),
    "flat": flat(),
    "folder": BOOK | {"policy": "./x"},
}


@pytest.mark.parametrize("source", [*SPECS.values(), *EXAMPLES], ids=[*SPECS, *(path.stem for path in EXAMPLES)])
def test_a_resolved_spec_read_again_is_the_same(tmp_path: Path, source: Any) -> None:
    spec = load_spec(source)
    path = tmp_path / "spec.yaml"
    path.write_text(as_yaml(spec))
    again = load_spec(path)
    assert again.model_dump() == spec.model_dump() | {"resources": again.resources.model_dump()}
    assert as_yaml(load_spec(path)) == as_yaml(again)


def test_replay_is_a_default_of_stages_alone() -> None:
    two = {"environments": {"a": {"type": "codebook"}, "b": {"type": "codebook"}}}
    by_rule = load_spec(two, ["curriculum.stage.replay={rule: due}"])
    shares = [spec.curriculum.stage.replay_share for spec in (load_spec(two), by_rule, load_spec(flat()))]
    assert shares == [0.25, 0.25, 0]
    with pytest.raises(ValueError, match="flat mode has no replay"):
        CurriculumSection(mode="flat", stage=Stage(replay=0.5))


def test_everything_has_a_default_that_works() -> None:
    spec = load_spec(BOOK)
    assert (spec.policy.model, spec.objective.preset, spec.sampler.type) == ("tiny", "repo_adaptive", "transformers")
    assert spec.curriculum.scheduler is not None
    assert (spec.curriculum.scheduler.type, spec.curriculum.bandit.type) == ("headroom", "headroom")
    assert spec.tracker.type == "mlflow"
    assert spec.warm_start is None
    assert (spec.learner.lr, spec.learner.betas, spec.learner.weight_decay) == (1e-4, (0.9, 0.99), 0)
    assert (load_spec(QWEN).learner.lr, load_spec(QWEN).learner.betas) == (1e-6, (0.9, 0.999))


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ({"policy": "tiny"}, {"policy": {"model": "tiny"}}),
        ({"objective": "rloo"}, {"objective": {"preset": "rloo"}}),
        ({"sampler": "transformers"}, {"sampler": {"type": "transformers"}}),
        ({"tracker": "none"}, {"tracker": {"type": "none"}}),
        (
            {"curriculum": {"stage": {"stop": "mastery"}}},
            {"curriculum": {"stage": {"stop": [{"type": "mastery"}]}}},
        ),
        ({"environments": {"book": "codebook"}}, BOOK),
        (
            {"curriculum": {"bandit": "uniform", "scheduler": "uniform"}},
            {"curriculum": {"bandit": {"type": "uniform"}, "scheduler": {"type": "uniform"}}},
        ),
        (
            {"curriculum": {"bandit": {"floor": 0.3}}},
            {"curriculum": {"bandit": {"type": "headroom", "floor": 0.3}}},
        ),
        ({"sampler": {"rows": 8}}, {"sampler": {"type": "transformers", "rows": 8}}),
    ],
)
def test_a_short_form_stands_for_the_map(short: Any, long: Any) -> None:
    assert load_spec(BOOK | short) == load_spec(BOOK | long)


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("policy.layers=1", {"policy": {"model": "tiny", "layers": 1}}),
        ("objective=grpo", {"objective": "grpo"}),
        ("objective.clip_high=0.4", {"objective": {"preset": "rloo", "clip_high": 0.4}}),
        (
            "curriculum.bandit.sure=3",
            {"curriculum": {"bandit": {"type": "headroom", "sure": 3}}},
        ),
        ("curriculum.stage.from=all", {"curriculum": {"stage": {"from": "all"}}}),
        ("sampler.temperature=.9", {"sampler": {"temperature": 0.9}}),
        ("learner.lr=1e-5", {"learner": {"lr": 1e-5}}),
        ("learner.lr=0", {"learner": {"lr": 0}}),
        ("environments.book.keys=3", {"environments": {"book": {"type": "codebook", "keys": 3}}}),
        ("warm_start={environments: [book]}", {"warm_start": {"environments": ["book"]}}),
    ],
)
def test_an_override_opens_short_forms_and_sets_one_value(override: str, changed: Any) -> None:
    base = BOOK | {"policy": "tiny", "objective": "rloo", "environments": {"book": "codebook"}}
    assert load_spec(base, [override]) == load_spec(base | changed)


def test_an_override_opens_the_short_form_of_an_environments_objective() -> None:
    base = BOOK | {"objective": {"by": {"book": "grpo"}}}
    long = {"by": {"book": {"preset": "grpo", "clip_high": 0.4}}}
    assert load_spec(base, ["objective.by.book.clip_high=0.4"]) == load_spec(base | {"objective": long})


def test_a_file_gives_its_name_and_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "First Try.yaml"
    path.write_text("environments: {book: codebook}")
    spec = load_spec(path)
    assert spec.name == "first-try"
    assert spec.resources.search_path == str(tmp_path)


def test_shape_is_for_tiny_only() -> None:
    with pytest.raises(SpecError, match="policy: layers: only `model: tiny` has these"):
        load_spec(BOOK | {"policy": {"model": "Qwen/Qwen2.5-3B", "layers": 2}})


def test_resume_may_change_resources_and_nothing_else() -> None:
    spec = load_spec(small())
    changed = change_resources(spec, ["resources.threads=2", "checkpoint.keep=9", "tracker=none"])
    assert (changed.resources.threads, changed.checkpoint.keep) == (2, 9)
    assert isinstance(changed, Spec)
    for override in ("learner.lr=1", "name=other", "seed=1", "resource.threads=2"):
        with pytest.raises(SpecError, match="only resources, tracker, checkpoint may change"):
            change_resources(spec, [override])
