"""Who runs when, and what happens to those that fail; with processes that end when they are told to."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator.cli.study import StudyScreen
from orchestrator.spec import load_spec
from orchestrator.studies.run_processes import RunProcesses
from orchestrator.studies.runner import ProcessEnd, RunQueue, StudyCallback, in_turn, workers_of
from tests.orchestrator.specs import small
from tests.orchestrator.studies.studies import made_study


class FakeProcesses(RunProcesses):
    """Runs go until somebody gives them an exit code."""

    def __init__(self) -> None:
        super().__init__("")
        self.exit_codes: dict[str, int] = {}
        self.asked: list[str] = []

    def exit_code(self, name: str) -> int | None:
        return self.exit_codes.get(name)

    def ask_to_stop(self, name: str) -> None:
        self.asked.append(name)


class Told(StudyCallback):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def started(self, name: str, attempt: int) -> None:
        self.heard.append(f"start {name} {attempt}")

    def failed_once(self, name: str, exit_code: int) -> None:
        self.heard.append(f"again {name} {exit_code}")

    def ended(self, ending: ProcessEnd) -> None:
        self.heard.append(f"{ending.status} {ending.name}")


class Trial:
    """A schedule with fake processes."""

    def __init__(self, names: Sequence[str], workers: int) -> None:
        self.processes, self.told = FakeProcesses(), Told()
        self.schedule = RunQueue(names, self._start, self.processes, workers, self.told)
        self.schedule.turn()

    def _start(self, name: str) -> None:
        self.processes.exit_codes.pop(name, None)

    def end(self, name: str, exit_code: int) -> bool:
        self.processes.exit_codes[name] = exit_code
        return self.schedule.turn()

    def statuses(self) -> dict[str, str]:
        return {name: ending.status for name, ending in self.schedule.endings.items()}


def test_so_many_run_at_a_time_in_order() -> None:
    trial = Trial("abc", workers=2)
    assert list(trial.schedule.going) == ["a", "b"]
    assert trial.end("b", 0)
    assert list(trial.schedule.going) == ["a", "c"]
    assert trial.end("a", 0)
    assert not trial.end("c", 0)
    assert trial.statuses() == dict.fromkeys("bac", "finished")


@pytest.mark.parametrize("exit_code", [1, 2, -9])
def test_a_failed_run_is_tried_once_more_before_others(exit_code: int) -> None:
    trial = Trial("ab", workers=1)
    trial.end("a", exit_code)
    assert list(trial.schedule.going) == ["a"]
    trial.end("a", 0)
    trial.end("b", 0)
    assert trial.statuses() == {"a": "finished", "b": "finished"}
    assert trial.schedule.endings["a"].attempts == 2
    assert trial.told.heard[:3] == ["start a 1", f"again a {exit_code}", "start a 2"]


def test_one_that_fails_twice_is_reported_and_the_others_go_on() -> None:
    trial = Trial("ab", workers=1)
    trial.end("a", 1)
    assert trial.end("a", 1)
    assert not trial.end("b", 0)
    assert trial.statuses() == {"a": "failed", "b": "finished"}


def test_one_that_stops_by_itself_is_not_tried_again() -> None:
    trial = Trial("ab", workers=1)
    assert trial.end("a", 75)
    trial.end("b", 0)
    assert trial.statuses() == {"a": "stopped", "b": "finished"}


def test_after_a_stop_nobody_starts_and_nobody_is_tried_again() -> None:
    trial = Trial("abcd", workers=3)
    trial.schedule.stop()
    assert trial.processes.asked == ["a", "b", "c"]
    trial.end("a", 75)
    trial.end("b", -15)  # asked before it could save
    assert not trial.end("c", 1)
    assert trial.statuses() == {"a": "stopped", "b": "stopped", "c": "failed"}
    assert list(trial.schedule.waiting) == ["d"]


class FakeRunner:
    """As much of a study's runner as its screen looks at."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.study = SimpleNamespace(name="trial", runs=["a"])
        self.done_before: list[str] = []
        self.runs = {"a": SimpleNamespace(setting=SimpleNamespace(spec=load_spec(small())))}
        self.schedule = SimpleNamespace(going=["a"])
        self.num_steps = 0

    def log(self, name: str) -> Path:
        return self._folder / f"{name}.txt"

    def steps_done(self, name: str) -> int:
        return self.num_steps

    def left_s(self, steps: dict[str, int]) -> None:
        return None


def test_before_its_first_step_a_run_is_told_by_what_it_printed_last(tmp_path: Path) -> None:
    """Its warm start says how far it is; what an earlier attempt printed is nobody's business."""
    runner, screen = FakeRunner(tmp_path), StudyScreen()
    log, earlier = runner.log("a"), time.time() - 60
    log.write_text("  0:59  warm start: batch 9 of 9, loss .10\n")
    os.utime(log, (earlier, earlier))
    screen.begin(runner)  # type: ignore[arg-type]
    screen.started("a", 2)

    def drawn() -> str:
        return str(screen._draw(100, 10)[1])

    assert drawn() == "  a  before its first step"
    with log.open("a") as file:
        file.write("run a  /home/a\n  0:00  warm start: 24 supervised batches on book\n")
        file.write("  0:05    warm start: batch 12 of 24, loss 2.31\n  0:06  half a li")
    os.utime(log)
    assert drawn() == "  a  before its first step: warm start: batch 12 of 24, loss 2.31"
    runner.num_steps = 3
    assert drawn().startswith("  a  step 3 of ")


def test_runs_that_begin_together_have_other_seeds_so_that_none_waits_for_another_s_warm_start(tmp_path: Path) -> None:
    study = made_study(tmp_path, seeds=3, grid={"curriculum.bandit": ["uniform", "sec"]})
    runs = study.runs
    by_two = [run.name.removeprefix("trial.") for run in in_turn(runs, study, 2)]
    assert by_two == ["uniform.s0", "uniform.s1", "sec.s0", "sec.s1", "uniform.s2", "sec.s2"]
    assert in_turn(runs, study, 1) == runs
    assert in_turn(runs[1:], study, 2)[0].name == "trial.uniform.s1"


@pytest.mark.parametrize(("ranks", "expected"), [(1, 6), (2, 4), (3, 2), (16, 1)])
def test_each_rank_of_a_run_has_a_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranks: int, expected: int
) -> None:
    monkeypatch.setattr("orchestrator.studies.runner.available_cores", lambda: 8)
    study = made_study(tmp_path, seeds=6, list=[{"resources.ranks": 1}, {"resources.ranks": ranks}][ranks == 1 :])
    assert workers_of(study) == expected
    assert workers_of(study, workers=3) == 3, "as asked"
