"""A bandit that chooses environments, and stages that end early, in whole runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import orchestrator
from orchestrator.runs.catalog import opened
from orchestrator.schedulers.rewards import GAIN_SCALE
from tests.integration.runs import At, Killed, ending, kill, told
from tests.orchestrator.specs import alone, small
from tests.shares import share

SCHEDULERS = ("boltzmann", "discounted_ucb", "gaussian_thompson", "headroom")


def scheduled(scheduler: Mapping[str, Any] | str, name: str = "small", stages: int = 5) -> dict[str, Any]:
    stage = {"steps": 2, "replay": 0.25}
    curriculum = {"stages": stages, "scheduler": scheduler, "stage": stage}
    return small(name, curriculum=curriculum, scoring={"isolation": "none"})


def decisions(home: Path, name: str) -> list[str]:
    return [event["text"] for event in told(home, name)["events"] if event["kind"] == "decision"]


@pytest.fixture(scope="module")
def gains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a finished run whose scheduler, Boltzmann's, is paid in gains; to be read only."""
    home = tmp_path_factory.mktemp("gains")
    orchestrator.run(scheduled({"type": "boltzmann", "reward": "gain"}), home=home)
    return home


@pytest.mark.parametrize("scheduler", share(SCHEDULERS, 1))
def test_each_environment_comes_once_before_the_bandit_decides(gains: Path, tmp_path: Path, scheduler: str) -> None:
    home = gains if scheduler == "boltzmann" else tmp_path
    if home == tmp_path:
        orchestrator.run(scheduled(scheduler), home=home)
    stages = [stage["environment"] for stage in told(home, "small")["stages"]]
    assert sorted(stages[:3]) == ["book", "noise", "numbers"]
    texts = decisions(home, "small")
    assert texts[0] == f"stage 1: {stages[0]}, new: every environment has a first stage before the scheduler decides"
    assert texts[1].startswith(f"stage 1: {stages[0]} earned ")
    chosen = [text for text in texts if f"picked by {scheduler} with probability" in text]
    assert len(chosen) == 2
    assert all(name in chosen[0] for name in ("book", "noise", "numbers"))


def scores(home: Path, name: str) -> dict[tuple[int, str], float]:
    with opened(home, name) as (_, ledger):
        cells = ledger.reading.matrix(name, "pass_1", "select")
        own = ledger.reading.matrix(name, "pass_1", "own")
    return {
        (c.after_stage, c.environment): c.value
        for c in (*cells, *own)
        if c.category is None and c.environment is not None and c.value is not None
    }


def test_a_gain_is_the_change_of_held_out_scores_that_only_the_scheduler_sees(gains: Path) -> None:
    seen = scores(gains, "small")
    assert {name for _, name in seen} == {"book", "noise", "numbers"}
    with opened(gains) as (_, ledger):
        stages = ledger.reading.stages("small")
        earned = ledger.reading.stage_picks("small")
        reported = {cell.split for cell in ledger.reading.matrix("small", "pass_1")}
    assert reported == {"anchor", "own"}
    for stage, pick in zip(stages, earned, strict=True):
        assert stage.environment is not None
        change = seen[stage.stage, stage.environment] - seen[stage.stage - 1, stage.environment]
        assert pick.signal == pytest.approx(GAIN_SCALE * change)
    assert any("(gain; held-out scores " in text for text in decisions(gains, "small"))


@pytest.mark.parametrize("reward", share(["total_gain", "retention"], 1))
@pytest.mark.slow
def test_the_other_rewards_read_all_environments(tmp_path: Path, reward: str) -> None:
    orchestrator.run(scheduled({"type": "discounted_ucb", "reward": reward, "max_gap": 3}), home=tmp_path)
    seen = scores(tmp_path, "small")
    assert len(seen) == 6 * 3
    with opened(tmp_path) as (_, ledger):
        first = ledger.reading.stage_picks("small")[0]
    if reward == "total_gain":
        total = sum(seen[1, name] - seen[0, name] for name in ("book", "noise", "numbers"))
        assert first.signal == pytest.approx(GAIN_SCALE * total)


def test_by_advantage_nothing_more_is_evaluated(tmp_path: Path) -> None:
    orchestrator.run(scheduled("boltzmann", stages=1), home=tmp_path)
    with opened(tmp_path) as (_, ledger):
        assert ledger.reading.matrix("small", "pass_1", "select") == []


def mastered(name: str = "alone") -> dict[str, Any]:
    """An environment that everybody solves: the first rule that may speak, speaks."""
    stage = {"steps": 60, "stop": [{"type": "mastery", "target": 0.5}], "min_steps": 20}
    return {**alone(name, character="generous"), "curriculum": {"stages": 2, "stage": stage}}


@pytest.fixture(scope="module")
def stopped_early(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the finished run, to be read only."""
    home = tmp_path_factory.mktemp("mastered")
    assert orchestrator.run(mastered(), home=home).status == "finished"
    return home


def test_a_stop_rule_ends_the_stage_and_says_why(stopped_early: Path) -> None:
    story = told(stopped_early, "alone")
    assert story["num_steps"] == 40
    assert [(stage["start_step"], stage["end_step"]) for stage in story["stages"]] == [(0, 20), (20, 40)]
    assert all(stage["stop_reason"].startswith("mastery: score 1.00") for stage in story["stages"])
    text = next(text for text in decisions(stopped_early, "alone") if "ends after" in text)
    assert text.startswith("stage 1: one ends after 20 of at most 60 steps: mastery")


@pytest.mark.parametrize("moment", share([22, 5, 21, 23, 30], 1))
@pytest.mark.slow
def test_stop_rules_and_rewards_survive_a_kill(stopped_early: Path, tmp_path: Path, moment: int) -> None:
    with pytest.raises(Killed):
        orchestrator.run(mastered(), home=tmp_path, watcher=At(moment, kill))
    orchestrator.resume("alone", home=tmp_path)
    assert ending(tmp_path, "alone") == ending(stopped_early, "alone")


@pytest.mark.slow
@pytest.mark.parametrize("moment", [4, 9, 15])
def test_a_scheduler_that_reads_scores_survives_a_kill(tmp_path: Path, moment: int) -> None:
    spec = scheduled({"type": "gaussian_thompson", "reward": "retention"})
    orchestrator.run(spec, home=tmp_path / "whole")
    with pytest.raises(Killed):
        orchestrator.run(spec, home=tmp_path / "killed", watcher=At(moment, kill))
    orchestrator.resume("small", home=tmp_path / "killed")
    assert ending(tmp_path / "killed", "small") == ending(tmp_path / "whole", "small")
    assert decisions(tmp_path / "killed", "small") == decisions(tmp_path / "whole", "small")
