"""A database that goes away while a run goes on: the run waits, or stops so that nothing is lost."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

import orchestrator
from orchestrator.recording.outbox import FILE
from orchestrator.runs.catalog import opened
from store.errors import LedgerAway
from store.ledger import Ledger, RunHandle, access, engine
from store.records import StageRecord
from store.report import REPORT_FILE
from tests.conftest import Evergreen
from tests.integration.runs import At, ending, told
from tests.orchestrator.specs import alone, small
from tests.shares import share

HERE = {"scoring": {"isolation": "none"}}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_PATIENT_BUSY_MS", 10)
    monkeypatch.setattr(access, "PAUSES_S", (0.02,))
    monkeypatch.setattr(access, "TELL_S", 0.0)


class Locker:
    """Another process with the lock that writers of the ledger need."""

    def __init__(self, home: Path) -> None:
        self._path = home / "evergreen.db"
        self._connection: sqlite3.Connection | None = None

    def lock(self) -> None:
        self._connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        self._connection.execute("BEGIN IMMEDIATE")

    def unlock(self) -> None:
        if self._connection is not None:
            self._connection.close()


# a step within a stage, one with a checkpoint due, a boundary, a stage's start, and the first boundary's record
@pytest.mark.parametrize("moment", share([3, 1, 4, 6, 7, 12], 1))
def test_a_run_whose_ledger_stays_away_stops_resumable_and_loses_nothing(
    finished: Path, tmp_path: Path, moment: int
) -> None:
    spec, locker = small(objective="repo_r", ledger={"patience": 0.001}, **HERE), Locker(tmp_path)
    outcome = orchestrator.run(spec, home=tmp_path, watcher=At(moment, locker.lock))
    assert (outcome.status, outcome.exit_code) == ("stopped", 75)
    assert "database is locked" in str(outcome.reason)
    position = max(path.name for path in (outcome.folder / "checkpoints").iterdir())
    locker.unlock()

    outcome = orchestrator.resume("small", home=tmp_path)
    assert outcome.status == "finished"
    assert not (outcome.folder / FILE).exists()
    assert ending(tmp_path, "small") == ending(finished, "small")
    resumed = [event["text"] for event in told(tmp_path, "small")["events"] if event["kind"] == "resumed"]
    step = int(position.split("-")[1])
    assert resumed == [f"resumed from the checkpoint of step {step}, with the spec the run began with"]


def test_a_ledger_that_comes_back_costs_time_only(finished: Path, tmp_path: Path) -> None:
    locker = Locker(tmp_path)

    def lock_for_a_moment() -> None:
        locker.lock()
        threading.Timer(0.5, locker.unlock).start()

    said: list[str] = []
    watcher = At(6, lock_for_a_moment)
    watcher.event = said.extend  # type: ignore[method-assign]
    assert orchestrator.run(small(objective="repo_r", **HERE), home=tmp_path, watcher=watcher).status == "finished"
    assert ending(tmp_path, "small") == ending(finished, "small")
    (event,) = [one for one in told(tmp_path, "small")["events"] if one["kind"] == "ledger away"]
    assert "the ledger was away, and the run waited" in event["text"]
    assert [text for text in said if "Trying again, for 10 min" in text], "told once, while it waits"
    assert event["text"] not in said, "and silently afterwards"


@pytest.mark.parametrize("broken", share(["ledger", "checkpoint"], 1))
def test_what_the_ledger_was_not_told_is_passed_over_when_it_does_not_fit(
    finished: Path, tmp_path: Path, broken: str
) -> None:
    spec, locker = small(objective="repo_r", ledger={"patience": 0.001}, **HERE), Locker(tmp_path)
    # locked after the fifth step, whose checkpoint is of the second of its stage
    outcome = orchestrator.run(spec, home=tmp_path, watcher=At(8, locker.lock))
    locker.unlock()
    assert (outcome.folder / FILE).is_file()
    if broken == "checkpoint":
        newest = max((outcome.folder / "checkpoints").iterdir())
        (newest / "progress" / "state.json").write_text("{}")
    else:
        with sqlite3.connect(tmp_path / "evergreen.db") as database:
            database.execute("UPDATE step SET step = step + 100 WHERE step = (SELECT max(step) FROM step)")
    assert orchestrator.resume("small", home=tmp_path).status == "finished"
    assert ending(tmp_path, "small") == ending(finished, "small")
    assert not (outcome.folder / FILE).exists()
    (passed,) = [one for one in told(tmp_path, "small")["events"] if one["kind"] == "checkpoint passed over"]
    assert "is not used" in passed["text"]


def test_the_command_line_says_how_to_go_on(
    tmp_path: Path, evergreen: Evergreen, monkeypatch: pytest.MonkeyPatch
) -> None:
    locker, file = Locker(tmp_path), tmp_path / "alone.yaml"
    file.write_text(yaml.safe_dump(alone() | {"ledger": {"patience": 0.001}}))
    start_stage = Ledger.start_stage

    def lock_first(ledger: Ledger, run: RunHandle, record: StageRecord) -> None:
        locker.lock()
        start_stage(ledger, run, record)

    monkeypatch.setattr(Ledger, "start_stage", lock_first)
    result = evergreen("run", file, "--home", tmp_path)
    assert result.exit_code == 75
    assert "database is locked" in result.stderr
    assert f"resume alone --home {tmp_path}" in result.stderr
    locker.unlock()
    monkeypatch.undo()
    assert evergreen("resume", "alone", "--home", tmp_path).exit_code == 0


# what the ledger is told when it goes away: a boundary, the start of the stage after it, that boundary's checkpoint
@pytest.mark.parametrize("call", share(["start_stage", "record_boundary", "record_checkpoint"], 2))
def test_a_boundary_at_which_the_ledger_goes_away_keeps_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    spec = {**alone(stages=3), "checkpoint": {"every_steps": 1, "keep": 1}}
    orchestrator.run(spec, home=tmp_path / "whole")
    real = getattr(Ledger, call)

    def away(ledger: Ledger, run: RunHandle, record: Any) -> None:
        is_due = {
            "start_stage": lambda: record.index == 2,
            "record_boundary": lambda: record.after_stage == 1,
            "record_checkpoint": lambda: record.num_boundaries == 2,
        }
        if is_due[call]():
            raise LedgerAway("the database is away")
        real(ledger, run, record)

    monkeypatch.setattr(Ledger, call, away)
    assert orchestrator.run(spec, home=tmp_path).reason == "the database is away"
    monkeypatch.undo()
    assert orchestrator.resume("alone", home=tmp_path).status == "finished"
    assert ending(tmp_path, "alone") == ending(tmp_path / "whole", "alone")
    with opened(tmp_path, "alone") as (_, ledger):
        kept = [(one.num_boundaries, one.step) for one in ledger.reading.checkpoints("alone") if one.kind == "boundary"]
    assert kept == [(4, 9), (3, 6), (2, 3), (1, 0)]
    assert orchestrator.fork("alone", 1, home=tmp_path).status == "finished"
    assert ending(tmp_path, "alone-fork") == ending(tmp_path, "alone")


@pytest.mark.parametrize("call", share(["record_checkpoint", "record_boundary"], 1))
def test_a_ledger_that_goes_away_at_the_last_boundary_costs_no_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    real = getattr(Ledger, call)

    def away(ledger: Ledger, run: RunHandle, record: Any) -> None:
        if (record.num_boundaries if call == "record_checkpoint" else record.after_stage + 1) == 3:
            raise LedgerAway("the database is away")
        real(ledger, run, record)

    monkeypatch.setattr(Ledger, call, away)
    report = orchestrator.run(alone(stages=2), home=tmp_path).folder / REPORT_FILE
    before = report.read_text() if report.exists() else ""
    monkeypatch.undo()
    assert orchestrator.resume("alone", home=tmp_path).status == "finished"
    assert report.read_text() != before
