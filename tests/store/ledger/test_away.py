"""A database that is away for a while: what was asked of it is done once, neither lost nor doubled."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import OperationalError

from store.errors import LedgerAway, LedgerError
from store.ledger import Ledger, access, engine
from store.ledger.access import Patience
from store.records import BoundaryRecord, CellRecord, EventRecord
from tests.store.ledger import example
from tests.store.ledger.suite import facts


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_PATIENT_BUSY_MS", 10)
    monkeypatch.setattr(access, "PAUSES_S", (0.02,))
    monkeypatch.setattr(access, "TELL_S", 0.0)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'evergreen.db'}"


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Hold the lock that writers need, as another process would."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


class Unlucky:
    """Loses the connection in every COMMIT, once: after the server has carried it out, or before."""

    def __init__(self, engine: Engine, is_carried_out: bool) -> None:
        self.num_lost, self._is_carried_out, self._was_lost = 0, is_carried_out, False
        self._commit: Any = engine.dialect.do_commit
        engine.dialect.do_commit = self  # type: ignore[method-assign]

    def __call__(self, connection: Any) -> None:
        if self._was_lost:
            self._was_lost = False
            self._commit(connection)
            return
        self._was_lost = True
        self.num_lost += 1
        if self._is_carried_out:
            self._commit(connection)
        else:
            connection.rollback()
        lost = sqlite3.OperationalError("server closed the connection unexpectedly")
        lost.sqlite_errorcode = sqlite3.SQLITE_BUSY
        raise lost


def live(ledger: Ledger) -> None:
    """Write everything that a run may write."""
    example.write(ledger, "puzzles")
    run = ledger.open_run("puzzles", example.environments())
    ledger.record_event(run, 2, EventRecord("stopped", "Ctrl-C"))
    environment = example.environments()[0].name
    cell = CellRecord(environment, None, "pass_4", 0.5, None, 4, 8)
    ledger.record_joined(run, BoundaryRecord(0, 0, 1.0, {"temperature": 9}, [cell]))


@pytest.mark.parametrize("is_carried_out", [True, False])
def test_a_connection_lost_in_commit_neither_loses_nor_doubles_anything(
    url: str, tmp_path: Path, is_carried_out: bool
) -> None:
    with Ledger.open(f"sqlite:///{tmp_path / 'other.db'}") as calm:
        live(calm)
        expected = facts(calm, "puzzles")
    with Ledger.open(url, patience=Patience(60)) as ledger:
        unlucky = Unlucky(ledger.engine, is_carried_out)
        live(ledger)
        assert unlucky.num_lost >= 10
        assert facts(ledger, "puzzles") == expected
        assert len(ledger.reading.events("puzzles")) == len(expected["events"])


def test_a_question_is_asked_again_where_its_connection_is_lost(url: str) -> None:
    with Ledger.open(url, patience=Patience(60)) as ledger:
        live(ledger)
        expected = (facts(ledger, "puzzles"), ledger.reading.gaps("puzzles"))
        execute, lost = ledger.engine.dialect.do_execute, set()

        def lose_once(cursor: Any, statement: str, *rest: Any) -> None:
            if statement.startswith("SELECT") and statement not in lost:
                lost.add(statement)
                failed = sqlite3.OperationalError("server closed the connection unexpectedly")
                failed.sqlite_errorcode = sqlite3.SQLITE_BUSY
                raise failed
            execute(cursor, statement, *rest)

        ledger.engine.dialect.do_execute = lose_once  # type: ignore[method-assign]
        assert (facts(ledger, "puzzles"), ledger.reading.gaps("puzzles")) == expected
        assert lost


def test_a_lock_is_waited_for_and_told_once(url: str) -> None:
    told: list[str] = []
    with Ledger.open(url, patience=Patience(60, told.append)) as ledger:
        run = example.begin(ledger, "puzzles")
        with locked(url):
            wait = ledger.patience.wait
            tries: list[LedgerAway] = []

            def unlock_after_three(away: LedgerAway) -> None:
                tries.append(away)
                if len(tries) == 3:
                    raise TimeoutError
                wait(away)

            ledger.patience.wait = unlock_after_three  # type: ignore[method-assign]
            with pytest.raises(TimeoutError):
                ledger.record_event(run, 1, EventRecord("a", "b"))
            ledger.patience.wait = wait  # type: ignore[method-assign]
        ledger.record_event(run, 1, EventRecord("a", "b"))
        assert [event.text for event in ledger.reading.events("puzzles") if event.kind == "a"] == ["b"]
        (text,) = told
        assert "database is locked" in text
        assert "Trying again, for 1 min" in text
        (news,) = ledger.patience.take_news()
        assert "the run waited 0 s for it" in news
        assert ledger.patience.take_news() == []


def test_when_patience_is_over_it_is_over_for_good(url: str) -> None:
    with Ledger.open(url, patience=Patience(0.5)) as ledger:
        run = example.begin(ledger, "puzzles")
        with locked(url):
            with pytest.raises(LedgerAway, match=r"database is locked.*Waited 0 s for it"):
                ledger.record_event(run, 1, EventRecord("a", "b"))
            begun = time.monotonic()
            with pytest.raises(LedgerAway):
                ledger.set_status(run, "stopped")
            assert time.monotonic() - begun < 0.45


def test_whoever_asks_to_stop_ends_the_wait(url: str) -> None:
    with Ledger.open(url, patience=Patience(600)) as ledger:
        run = example.begin(ledger, "puzzles")
        ledger.patience.interruption = lambda: "Ctrl-C"
        with locked(url), pytest.raises(LedgerAway, match=r"Waiting for it was ended: Ctrl-C"):
            ledger.record_event(run, 1, EventRecord("a", "b"))


def test_what_is_wrong_is_not_waited_for(url: str) -> None:
    with Ledger.open(url, patience=Patience(600)) as ledger:
        run = example.begin(ledger, "puzzles")
        ledger.start_stage(run, example.stage_record(1))
        ledger.record_step(run, example.step_record(1))
        with pytest.raises(LedgerError, match="clashes"):
            ledger.record_step(run, replace(example.step_record(1), seconds=9.0))
        with ledger.engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE sample")
        with pytest.raises(LedgerError, match="no such table") as wrong:
            ledger.reading.samples("puzzles")
        assert not isinstance(wrong.value, LedgerAway)


def test_a_server_is_pinged_before_it_is_used_and_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, Any] = {}
    monkeypatch.setattr(engine, "create_engine", lambda url, **given: made.update(given) or _Made())
    engine.make_engine("postgresql://me@host/db?connect_timeout=3")
    assert made["pool_pre_ping"] is True
    assert made["connect_args"]["tcp_user_timeout"] == 50_000
    assert "connect_timeout" not in made["connect_args"], "what the URL says stays"


class _Made:
    class dialect:  # noqa: N801  as SQLAlchemy calls it
        name = "postgresql"


def test_a_password_that_is_missing_is_told_with_where_its_variable_belongs() -> None:
    asked = access.Access(create_engine("sqlite://"))
    refused = OperationalError("", {}, Exception("fe_sendauth: no password supplied"))
    where = r"set EVERGREEN_LEDGER_PASSWORD or PGPASSWORD to it \(for runs on Ray: on every node, where `ray start` is"
    with pytest.raises(LedgerError, match=where), asked.explaining("Opening", is_opening=True):
        raise refused
