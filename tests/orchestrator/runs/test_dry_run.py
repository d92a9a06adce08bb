from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import UserError
from orchestrator.runs.api import run
from orchestrator.runs.dry_run import DryRun, make_plan
from orchestrator.spec import load_spec
from policies.errors import PolicyError
from tests.orchestrator.specs import alone, small


def plan(spec: dict[str, Any], *overrides: str) -> DryRun:
    return make_plan(load_spec(spec, overrides), Path("a/home/that/is/not/there/yet"))


def test_a_plan_counts_steps_episodes_and_evaluations() -> None:
    made = plan(small())
    assert (made.steps, made.episodes) == (9, 9 * 4 * 4)
    assert made.evaluations == "4 evaluations of 48 samples at most"  # 6 categories, 2 items, 4 samples
    assert made.stages == (
        "3 stages of 3 steps, scheduler uniform over numbers, book, noise; a gated_sec bandit each; replay 0.25"
    )
    assert made.free_bytes > 0


def test_a_flat_plan_names_its_one_bandit() -> None:
    made = plan(small(curriculum={"mode": "flat"}))
    assert made.stages == "one gated_sec bandit over all categories of numbers, book, noise"


def test_a_plan_counts_the_twin_too() -> None:
    alone, paired = plan(small()), plan(small(baseline="uniform"))
    assert (paired.steps, paired.episodes) == (2 * alone.steps, 2 * alone.episodes)
    assert (paired.num_checkpoints, paired.ledger_bytes) == (
        2 * alone.num_checkpoints,
        2 * alone.ledger_bytes,
    )
    assert paired.stages == alone.stages + ", and the same again with the uniform bandit"
    assert paired.evaluations == "8 evaluations of 48 samples at most"


def test_limits_of_an_environment_beyond_those_of_scoring_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.environments.fakes.Fake.seconds", 2.0, raising=False)
    with pytest.raises(UserError, match=r"timeout_s is 2, but .* a score of noise may take 2 s"):
        plan(small())
    assert plan(small(), "scoring.timeout_s=3").steps == 9


def test_the_disk_that_a_plan_tells_is_what_a_run_takes(tmp_path: Path) -> None:
    made = plan(alone())
    outcome = run(alone(), home=tmp_path)
    newest = max(outcome.folder.glob("checkpoints/*"))
    size = sum(path.stat().st_size for path in newest.rglob("*.safetensors"))
    assert made.checkpoint_bytes == pytest.approx(size, rel=0.05)
    assert f"{made.parameters:,} weights" in "\n".join(made.lines())


def test_a_hub_model_that_is_not_here_has_a_plan_without_a_size() -> None:
    made = plan(small(policy="somebody/no-such-model"))
    assert (made.parameters, made.checkpoint_bytes) == (None, None)
    assert "the model's configuration is not here, so no size" in "\n".join(made.lines())


def test_a_folder_that_is_not_there_has_no_plan() -> None:
    with pytest.raises(PolicyError, match="does not exist"):
        plan(small(policy="./no-such-folder"))


def test_what_is_allowed_and_usually_a_mistake_is_told() -> None:
    fixed = plan(small(), "objective.preset=repo", "objective.controller=none")
    assert any("nothing can lower it" in line for line in fixed.lines())
    assert plan(small()).warnings == ()
