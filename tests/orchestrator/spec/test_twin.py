"""`baseline` in a spec: which twins there are, what they are called, and which cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import SpecError
from orchestrator.spec import Spec, load_spec
from orchestrator.spec.twin import twin_of, with_twin
from tests.orchestrator.specs import small


def twin(baseline: Any, *overrides: str, **sections: Any) -> Spec:
    return twin_of(load_spec(small(baseline=baseline, **sections), overrides))


@pytest.mark.parametrize(
    ("baseline", "name"),
    [
        ("uniform", "small-uniform"),
        ({"curriculum.bandit": "uniform"}, "small-uniform"),
        ({"curriculum.bandit.type": "sec"}, "small-sec"),
        ({"objective": "grpo"}, "small-grpo"),
        ({"objective": "grpo", "curriculum.stage.replay": 0}, "small-grpo-replay-0"),
        ({"objective": {"preset": "repo_r", "clip_high": 0.3}}, "small-repo_r-clip_high-0.3"),
        ({"learner.lr": 1e-4, "curriculum.scheduler": "round_robin"}, "small-lr-0.0001-round_robin"),
    ],
)
def test_a_twin_is_named_after_its_run_and_its_settings(baseline: Any, name: str) -> None:
    assert twin(baseline).name == name


def test_a_long_name_leaves_room_for_a_label() -> None:
    long = "a" * 60
    settings = {"objective": "grpo", "curriculum.stage.replay": 0, "learner.lr": 1e-4, "learner.warmup": 3}
    made = twin(settings, name=long)
    assert made.name.startswith(f"{long}-grpo-")
    assert len(made.name) == 80


def test_a_twin_is_its_run_but_for_its_settings() -> None:
    run = load_spec(small(baseline={"objective": "grpo", "curriculum.stage.replay": 0}))
    found, own = (one.model_dump(mode="json", by_alias=True) for one in (twin_of(run), run))
    assert found["objective"] == load_spec(small(objective="grpo")).model_dump(mode="json")["objective"]
    assert found["curriculum"].pop("stage") == {**own["curriculum"].pop("stage"), "replay": 0.0}
    assert {key for key in own if own[key] != found[key]} == {"name", "baseline", "objective"}
    assert found["baseline"] is None
    assert with_twin(twin_of(run)) == [twin_of(run)]


def test_a_twin_is_the_same_of_the_spec_that_a_ledger_keeps() -> None:
    run = load_spec(small(baseline={"objective.preset": "grpo", "objective.clip_high": 0.3}))
    assert twin_of(load_spec(run.kept())) == twin_of(run)
    assert twin_of(run).objective.options["clip_high"] == 0.3


def test_a_bandit_reads_the_signal_of_its_run_unless_it_says_otherwise() -> None:
    own = {"curriculum": {"bandit": {"type": "sec", "signal": "variance"}}}
    assert twin("uniform", **own) == twin({"curriculum.bandit": "uniform"}, **own)
    assert twin("uniform", **own).curriculum.bandit.signal == "variance"
    raw = {"curriculum.bandit": {"type": "uniform", "signal": "raw"}}
    assert twin(raw, **own).curriculum.bandit.signal == "raw"


def test_overrides_give_settings_of_the_twin() -> None:
    assert twin(None, "baseline.objective=grpo").name == "small-grpo"
    assert twin("uniform", "baseline.curriculum.stage.replay=0").name == "small-uniform-replay-0"
    with pytest.raises(SpecError, match=r"--set baseline\.curriculum\.stage\.replay=2: baseline\.curriculum\.stage"):
        twin(None, "baseline.curriculum.stage.replay=2")


FIXED = [
    *("name", "seed", "policy.layers", "warm_start.batches", "environments.book.keys", "baseline", "evaluate.items"),
    *("measure.share", "scoring.workers", "checkpoint.keep", "ledger.url", "tracker", "resources.threads"),
    *("curriculum.stages", "sampler.max_tokens"),
]
WRONG = {
    "an unknown section": ({"objektive": "grpo"}, "baseline.objektive: unknown key. Did you mean 'objective'?"),
    "an unknown field": (
        {"curriculum.stage.repaly": 0},
        "baseline.curriculum.stage.repaly: unknown key. Did you mean 'replay'?",
    ),
    "an unknown option": (
        {"curriculum.bandit": {"type": "sec", "temprature": 1}},
        "baseline.curriculum.bandit.temprature: unknown key. Did you mean 'temperature'?",
    ),
    "a preset that is not there": ({"objective": "grppo"}, "baseline.objective.preset: there is no preset `grppo`"),
    "a bad value": ({"curriculum.stage.replay": 2}, "baseline.curriculum.stage.replay: input should be less than 1"),
    "a switch for a number": ({"learner.lr": True}, "baseline.learner.lr: a number is wanted, not True"),
    "a field of none": ({"curriculum.stage.replay.share": 0}, "replay.share: 'replay' is not a section"),
    "a whole section": (
        {"curriculum": {"stage": {"replay": 0}}},
        "baseline.curriculum: a map would stand for the whole section: name the fields, like `curriculum.stage`",
    ),
    "a part of a list": ({"objective.controller.target": 0.4}, "give the whole objective, `objective: {preset: NAME,"),
    "what does not fit the rest": ({"learner.warmup": 99, "learner.schedule": "linear"}, "baseline: learner.sch"),
    "the run's own": ({"curriculum.stage.replay": 0.25}, "baseline: these settings are the run's own: remove"),
    "nothing": ({}, "baseline: these settings are the run's own: remove"),
    "another bandit in short": ("sec", "baseline: `uniform` is wanted, or a map of settings like {objective: grpo}"),
}


@pytest.mark.parametrize("key", FIXED)
def test_what_would_make_it_no_twin_is_refused(key: str) -> None:
    with pytest.raises(SpecError) as refused:
        twin({"objective": "grpo", key: 1})
    assert f"baseline.{key}: a twin cannot have its own, because " in str(refused.value)


@pytest.mark.parametrize(("baseline", "said"), WRONG.values(), ids=WRONG)
def test_a_twin_that_cannot_be_is_refused_with_the_spec(baseline: Any, said: str) -> None:
    with pytest.raises(SpecError) as refused:
        load_spec(small(baseline=baseline))
    assert said in str(refused.value)


def test_what_is_wrong_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("environments: {book: codebook}\nbaseline:\n  objective: grpo\n  curriculum.stage.replay: 2\n")
    with pytest.raises(SpecError, match=r"mine\.yaml, line 4: baseline\.curriculum\.stage\.replay: input should be"):
        load_spec(path)
