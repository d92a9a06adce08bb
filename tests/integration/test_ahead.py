"""Playing one batch ahead: exactly one version behind, never for another stage, and exact on resume."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from environments import NoTasks, Task
from orchestrator.curriculum import Curriculum
from orchestrator.errors import SpecError
from orchestrator.played_group import Slot
from orchestrator.progress import Progress
from orchestrator.rollout.player import Player
from orchestrator.rollout.prefetch import Prefetch
from orchestrator.rollout.task_sampler import TaskSampler
from orchestrator.runs.api import fork, resume, run
from orchestrator.runs.catalog import opened
from orchestrator.spec.load import load_spec
from orchestrator.stopwatch import Stopwatch
from tests.integration.runs import At, Killed, component, ending, kill, series, told
from tests.orchestrator.specs import alone, small
from tests.shares import share

HERE = "scoring.isolation=none"
STEP_BEFORE = 2  # the first whose next batch draws what is broken
AHEAD = small("ahead", sampler={"max_tokens": 3, "ahead": 1})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("ahead")
    run(AHEAD, [HERE], home=home)
    return home


def test_every_batch_is_one_version_behind_but_the_first_of_a_stage(home: Path) -> None:
    assert series(home, "ahead", "versions_behind") == [0, 1, 1] * 3
    gaps = series(home, "ahead", "sampler_gap_mean")
    on_policy = [gap for gap in gaps[::3] if gap is not None]
    behind = [gap for number, gap in enumerate(gaps) if number % 3 and gap is not None]
    assert max(on_policy) < 1e-5 < min(behind), "the gap is that of older weights"
    assert all((most or 0) > 1 for most in series(home, "ahead", "tis_weight_max")), "and is weighed"


@pytest.fixture(scope="module")
def waits(home: Path) -> str:
    """The same run without playing ahead, in the same home."""
    return run(small("waits"), [HERE], home=home).name


def test_it_ends_in_the_same_kinds_of_records_as_a_run_that_waits(home: Path, waits: str) -> None:
    kinds = []
    for name in ("ahead", waits):
        with opened(home, name) as (_, ledger):
            kinds.append({(n.metric, n.environment) for n in ledger.reading.numbers(name)})
    assert kinds[0] == kinds[1]


@pytest.mark.parametrize("moment", share([6, 2, 3, 9, 14], 1))
def test_killed_at_any_moment_it_equals_the_uninterrupted_run(home: Path, moment: int) -> None:
    name = f"killed-{moment}"
    with pytest.raises(Killed):
        run(AHEAD, [f"name={name}", HERE], home=home, watcher=At(moment, kill))
    assert resume(name, home=home).status == "finished"
    assert ending(home, name) == ending(home, "ahead")


@pytest.mark.slow
def test_stopped_after_every_step_it_equals_the_uninterrupted_run(home: Path) -> None:
    outcome = run(AHEAD, ["name=steps"], home=home, until_step=1)
    assert component(home, "steps", "under_way", "batch.json")["step"] == 2, "what was played is not lost"
    for step in range(2, 10):
        outcome = resume(outcome.name, home=home, until_step=step)
    assert resume("steps", home=home).status == "finished"
    assert ending(home, "steps") == ending(home, "ahead")


def test_the_next_batch_is_played_in_a_thread_of_its_own_while_the_learner_updates(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: dict[str, set[str]] = {"play": set(), "update": set()}
    real = {"play": Player.play, "update": Curriculum.update}

    def noting(what: str):  # type: ignore[no-untyped-def]
        def call(*args, **kwargs):  # type: ignore[no-untyped-def]
            threads[what].add(threading.current_thread().name)
            return real[what](*args, **kwargs)

        return call

    monkeypatch.setattr(Player, "play", noting("play"))
    monkeypatch.setattr(Curriculum, "update", noting("update"))
    run(AHEAD, ["name=threads", HERE], home=home, until_step=3)
    main = threading.main_thread().name
    assert threads["update"] == {main}
    assert threads["play"] == {main, "ahead_0"}


def test_an_error_while_playing_ahead_ends_the_run_as_any_other_does(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Player.play

    def failing(self: Player, *args, sync: bool = True, **more):  # type: ignore[no-untyped-def]
        if not sync:
            raise OSError("the engine is gone")
        return real(self, *args, sync=sync, **more)

    monkeypatch.setattr(Player, "play", failing)
    with pytest.raises(OSError, match="the engine is gone"):
        run(AHEAD, ["name=failing", HERE], home=home)
    assert told(home, "failing")["status"] == "failed"


@pytest.mark.slow
def test_a_fork_may_begin_or_cease_to_play_ahead(home: Path, waits: str) -> None:
    begun = fork(waits, 2, overrides=["name=begun", "sampler.ahead=1"], home=home)
    ceased = fork("ahead", 2, overrides=["name=ceased", "sampler.ahead=0"], home=home)
    assert {begun.status, ceased.status} == {"finished"}
    assert series(home, "begun", "versions_behind")[-3:] == [0, 1, 1]
    assert series(home, "ceased", "versions_behind")[-3:] == [0, 0, 0]


def one_environment(categories: str, **curriculum: Any) -> dict[str, Any]:
    spec = alone(categories=[*categories], steps=8, stages=1, character="judged_by_several")
    return {
        **spec,
        "learner": {"lr": 0.01},
        "curriculum": {**spec["curriculum"], **curriculum},
        "sampler": {"max_tokens": 3, "ahead": 1},
    }


def fail_to_draw(monkeypatch: pytest.MonkeyPatch, category: str) -> None:
    """Have servers give no tasks of a category."""
    real = TaskSampler._draw

    def draw(self: TaskSampler, slots: Sequence[Slot], beside: Sequence[Task]) -> list[Task]:
        if any(slot.category == category for slot in slots):
            raise NoTasks("no tasks", "one", category, "HTTP 500")
        return real(self, slots, beside)

    monkeypatch.setattr(TaskSampler, "_draw", draw)


def test_stopped_when_the_next_batch_could_not_be_drawn_it_equals_the_uninterrupted_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = one_environment("abcdefgh")
    fail_to_draw(monkeypatch, "a")
    run(spec, home=tmp_path / "whole")
    told_of = [event["step"] for event in told(tmp_path / "whole", "alone")["events"] if event["kind"] == "quarantine"]
    assert told_of == [STEP_BEFORE]
    run(spec, home=tmp_path, until_step=STEP_BEFORE)
    assert component(tmp_path, "alone", "missing")["category"] == "a"
    resume("alone", home=tmp_path)
    assert ending(tmp_path, "alone") == ending(tmp_path / "whole", "alone")


@pytest.mark.parametrize("quarantine", [{}, None])
def test_what_nothing_is_left_without_is_drawn_anew_after_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quarantine: dict[str, Any] | None
) -> None:
    spec = one_environment("a", quarantine=quarantine)
    begin_next = Prefetch.begin_next

    def begin_none(self: Prefetch, at: Progress, watch: Stopwatch) -> None:
        fail_to_draw(monkeypatch, "a")
        begin_next(self, at, watch)

    monkeypatch.setattr(Prefetch, "begin_next", begin_none)
    run(spec, home=tmp_path, until_step=1)
    monkeypatch.undo()
    assert resume("alone", home=tmp_path).status == "finished"


def test_without_importance_weights_it_is_refused() -> None:
    with pytest.raises(SpecError, match="tis_cap"):
        load_spec(small(sampler={"ahead": 1}, objective={"preset": "rloo", "tis_cap": None}))
