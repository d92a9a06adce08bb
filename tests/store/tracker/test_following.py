"""The tracker's process: what it does while a run goes on, while MLflow is away, and when it is killed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import update

from store.errors import LedgerAway, LedgerError, TrackerError
from store.ledger import Ledger, Reading, tables
from store.lock import is_locked, run_lock
from store.tracker import daemon
from store.tracker.daemon import LOCK, TrackerJob, follow, send_all, send_now, turn
from store.tracker.outlets import Link, Sent
from store.tracker.pages import Cursor
from store.tracker.record import MANNERS, MlflowRecord, Target
from store.tracker.sinks import Destination, missing
from store.tracker.sync import Source, catch_up
from tests.store.tracker import moody_server
from tests.store.tracker.conftest import Copy
from tests.store.tracker.content import everything, files, names, num_rows
from tests.store.tracker.databases import empty
from tests.store.tracker.test_covered import as_if_killed_after


@dataclass(frozen=True)
class Server:
    """An MLflow server in a process of its own."""

    url: str
    database: Target  # what it keeps, from behind
    artifacts: Path
    mood: Path

    def target(self, experiment: str) -> Target:
        return Target(self.url, experiment, None)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    database, mood, artifacts = (
        empty(tmp_path / "server"),
        tmp_path / "mood",
        tmp_path / "server-files",
    )
    mood.write_text("well")
    words = [sys.executable, moody_server.__file__, str(database.database), str(artifacts), str(mood)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env={**os.environ, **MANNERS}) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        yield Server(f"http://127.0.0.1:{port}", database, artifacts, mood)
        process.kill()


def job(source: Source, target: Target) -> TrackerJob:
    return TrackerJob(source.run, str(source.folder), str(source.ledger.engine.url), target)


def tracker(source: Source, target: Target) -> subprocess.Popen[str]:
    """Start one as the trainer does."""
    words = [sys.executable, "-P", "-m", "store.tracker", source.run]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    with process.stdin as pipe:
        pipe.write(job(source, target).as_json())
    process.stdin = None
    return process


def wait_for(what: Callable[[], bool], wait_s: float = 60.0) -> None:
    give_up_at = time.monotonic() + wait_s
    while not what():
        assert time.monotonic() < give_up_at
        time.sleep(0.05)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon, "PAUSES_S", (0.05,))
    monkeypatch.setattr(daemon, "LOOK_S", 0.05)


@pytest.mark.slow
def test_a_process_sends_what_is_covered_and_leaves_when_the_run_is_over(
    source_of: Copy, target: Target, other: Target
) -> None:
    """It is killed in between, too, and a second one goes on."""
    whole = source_of()
    catch_up(whole, MlflowRecord(other))
    going_on = as_if_killed_after(source_of(), 5, 2)
    with run_lock(going_on.folder):
        process = tracker(going_on, target)
        wait_for(lambda: names(target) == ["01 book (small)", "02 noise (small)", "small"])
        wait_for(lambda: following_is_idle(target))
        assert process.poll() is None
        process.kill()
        process.communicate()
    finished = replace(going_on, ledger=whole.ledger)
    process = tracker(finished, target)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "up to step 9; the run is finished" in said
    entry, kept = MlflowRecord(target).curriculum(finished.read.run("small").uid), Link.kept(finished.folder)
    assert entry is not None
    assert kept is not None
    assert f"/runs/{entry.id}?" in kept.run
    assert everything(target) == everything(other)


def following_is_idle(target: Target) -> bool:
    """Whether a pass is over: its last act is the status."""
    return any(key == "evergreen.status" for _, key, _ in everything(target)[3])


@pytest.mark.slow
def test_a_server_that_fails_for_a_while_gets_everything_once(
    source_of: Copy, server: Server, other: Target, impatient: None
) -> None:
    source = source_of()
    catch_up(source, MlflowRecord(other))
    server.mood.write_text("ill")
    said: list[str] = []
    thread = threading.Thread(target=follow, args=(job(source, server.target("evergreen")), said.append))
    thread.start()
    wait_for(lambda: len(said) >= 2)
    assert names(server.database) == []
    server.mood.write_text("shaky")
    wait_for(lambda: len(said) >= 6 or not thread.is_alive())
    server.mood.write_text("well")
    thread.join(60)
    assert not thread.is_alive()
    assert everything(server.database) == everything(other)
    assert num_rows(server.database)[1] == num_rows(other)[1]
    assert {"spec.yaml", "picks.parquet", "samples/book.jsonl"} <= set(files(server.artifacts))
    assert said[0].startswith(f"Bringing MLflow at {server.url} up to date failed: it answers with errors only.")
    assert said[-1].endswith("the run is finished")


@pytest.mark.slow
def test_it_gives_up_in_the_end_and_the_next_pass_sends_everything(
    source_of: Copy, server: Server, other: Target, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "GIVE_UP_S", 0.2)
    source, target = source_of(), server.target("evergreen")
    catch_up(source, MlflowRecord(other))
    server.mood.write_text("ill")
    with pytest.raises(TrackerError, match=server.url):
        follow(job(source, target), lambda text: None)
    server.mood.write_text("well")
    said: list[str] = []
    link = send_now(job(source, target), said.append)
    assert link is not None
    assert link.run.startswith("/#/experiments/1/runs/")
    assert Link.kept(source.folder) == link
    assert everything(server.database) == everything(other)
    assert said[0].endswith("values sent")
    send_now(job(source, target), said.append)
    assert said[1] == "small: up to date"


@pytest.mark.slow
def test_of_finished_runs_only_those_that_lack_something_are_gone_through(
    source_of: Copy, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of()
    jobs = [job(source, target), job(replace(source, run="flat", folder=source.folder.with_name("flat")), target)]
    Path(jobs[1].folder).mkdir()
    said: list[str] = []
    passes: list[str] = []
    send = daemon.send_now

    def counted(one: TrackerJob, say: daemon.Say) -> Link | None:
        passes.append(one.run)
        return send(one, say)

    monkeypatch.setattr(daemon, "send_now", counted)

    def again() -> list[str]:
        passes.clear()
        said.clear()
        links = send_all(jobs, said.append, pytest.fail)
        assert [Link.kept(Path(one.folder)) for one in jobs] == [links[one] for one in jobs]
        return passes

    assert again() == ["small", "flat"]
    before = names(target)
    assert again() == []
    assert said == ["small, flat: up to date"]
    (source.folder / "report.html").write_text("another")
    assert again() == ["small"]
    with source.ledger.engine.begin() as connection:
        connection.execute(update(tables.boundary).values(created_at="2026-01-01T00:00:00+00:00"))
    assert again() == ["small", "flat"]
    record = MlflowRecord(target)
    record.forget(record.curricula()[source.read.run("flat").uid])
    assert again() == ["flat"]
    source.ledger.set_status(source.ledger.open_run("small"), "stopped")
    assert again() == ["small"]
    source.ledger.set_status(source.ledger.open_run("small"), "finished")
    assert again() == ["small"]
    assert again() == []
    assert sorted(names(target)) == sorted(before)


def test_what_a_search_finds_is_what_the_database_says(both: MlflowRecord) -> None:
    asked = both._find("tags.`evergreen.kind` = 'curriculum'")
    assert sorted(asked, key=lambda entry: entry.id) == sorted(
        both._curricula_in_database(), key=lambda entry: entry.id
    )
    assert len(both.curricula()) == len(asked) == 2


def test_nobody_there_is_told_in_a_moment(source_of: Copy) -> None:
    begun = time.monotonic()
    with pytest.raises(
        TrackerError, match=r"MLflow at http://\*\*\*@127.0.0.1:9 up to date failed: nobody answers there"
    ):
        send_now(job(source_of(), Target("http://me:secret@127.0.0.1:9", "x", None)), lambda text: None)
    assert time.monotonic() - begun < 20


def test_the_newest_tracker_takes_over(source_of: Copy, target: Target, impatient: None) -> None:
    source, said = source_of(), list[str]()
    nobody = Target("http://127.0.0.1:9", "x", None)
    with run_lock(source.folder):
        thread = threading.Thread(target=follow, args=(job(source, nobody), said.append))
        thread.start()
        wait_for(lambda: bool(said))
        follow(job(source, target), lambda text: None)
        thread.join(30)
    assert said[-1] == "another tracker sends this run from here on"
    assert len(names(target)) == 4


def test_a_turn_that_is_waited_for_in_vain_stays_with_who_has_it(tmp_path: Path) -> None:
    with turn(tmp_path, 1) as is_mine:
        with pytest.raises(TrackerError, match="another tracker is sending"), turn(tmp_path, 0):
            pass
        assert is_mine()


def test_where_the_folder_of_a_run_is_gone_nobody_can_ask(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with turn(folder, 1) as is_mine:
        shutil.rmtree(folder)
        assert is_mine()


def test_of_several_that_wait_in_vain_each_asks_for_itself_alone(tmp_path: Path) -> None:
    heard = list[bool]()
    second_asks = threading.Event()

    def first_gives_up() -> bool:
        second.start()
        return not second_asks.wait(30)

    def second_gives_up() -> bool:
        second_asks.set()
        first.join(30)
        heard.append(is_mine())
        return False

    def ask(goes_on: Callable[[], bool]) -> None:
        with pytest.raises(TrackerError, match="another tracker is sending"), turn(tmp_path, 0, goes_on):
            pass

    first, second = (threading.Thread(target=ask, args=[one]) for one in (first_gives_up, second_gives_up))
    with turn(tmp_path, 1) as is_mine:
        first.start()
        first.join(30)
        second.join(30)
        assert heard == [False], "the second asked still"
        assert is_mine()


def test_who_was_killed_while_it_waited_asks_for_nothing(tmp_path: Path) -> None:
    with turn(tmp_path, 1) as is_mine:
        (tmp_path / daemon.TURN).write_text("0" * 32)
        assert is_mine()


class Place:
    """An outlet that notes of each pass whether it was wanted to the end."""

    says, rest_s = "", 0.0

    def __init__(self) -> None:
        self.passes = list[bool]()

    def speaking(self) -> AbstractContextManager[None]:
        return nullcontext()

    def send(self, source: Source, is_mine: Callable[[], bool]) -> Sent:
        self.passes.append(all([is_mine(), is_mine()]))
        return Sent(1, 9)

    def drop(self) -> None:
        pass


@pytest.mark.parametrize("at_look", [1, 2, 3, 4])
def test_who_asked_and_was_killed_before_all_places_saw_it_ends_none(
    source_of: Copy, target: Target, impatient: None, monkeypatch: pytest.MonkeyPatch, at_look: int
) -> None:
    mlflow, beside, looks = Place(), Place(), count(1)

    @contextmanager
    def turn_that_is_asked_for_once(*_: object) -> Iterator[Callable[[], bool]]:
        yield lambda: threading.current_thread().name != daemon.OUTLET or next(looks) != at_look

    monkeypatch.setattr(daemon, "turn", turn_that_is_asked_for_once)
    monkeypatch.setattr(daemon, "MlflowOutlet", lambda *_: mlflow)
    monkeypatch.setattr(daemon, "SinkOutlet", lambda *_: beside)
    to = Destination("tensorboard", "nowhere", "x")
    follow(replace(job(source_of(), target), also=(to,)), lambda text: None)
    assert (mlflow.passes[-1], beside.passes[-1]) == (True, True)


def test_while_the_run_goes_on_its_tracker_waits_for_an_earlier_one(
    source_of: Copy, target: Target, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "TURN_S", 0.0)
    source, said = source_of(), list[str]()
    with run_lock(source.folder):
        thread = threading.Thread(target=follow, args=(job(source, target), said.append))
        with turn(source.folder, 1) as is_mine:
            thread.start()
            wait_for(lambda: not is_mine())
            thread.join(0.5)
            assert thread.is_alive()
        wait_for(lambda: bool(said))
    thread.join(30)
    assert "the run is finished" in said[-1]


@pytest.mark.skipif(missing("tensorboard") is not None, reason="needs tensorboard")
def test_the_step_that_is_told_is_the_one_that_was_sent(
    source_of: Copy, target: Target, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run goes on between the look at its ledger and the pass."""
    source, said = source_of(), list[str]()
    monkeypatch.setattr(daemon, "covered", lambda *_: Cursor())
    beside = Destination("tensorboard", str(source.folder.parent), "x")
    follow(replace(job(source, target), also=(beside,)), said.append)
    assert [text.partition("; ")[0].partition(" sent, ")[2] for text in said] == ["up to step 9"] * 2


def test_a_run_that_goes_on_is_left_to_its_own_tracker(source_of: Copy, target: Target) -> None:
    source, said = source_of(), list[str]()
    with run_lock(source.folder), turn(source.folder, 1):
        assert is_locked(source.folder / LOCK)
        link = send_now(job(source, target), said.append)
        assert send_now(job(source, Target("http://127.0.0.1:9", "x", None)), said.append) is None
    assert said == ["small: running, and its own tracker sends it"] * 2
    assert names(target) == []
    assert link is not None
    assert link.run == link.runs == "/#/experiments/1/runs?workflowType=machine_learning&viewStateShareKey=evergreen"
    assert not is_locked(source.folder / LOCK)


@pytest.mark.slow
def test_trackers_that_start_together_make_one_database_and_one_experiment(source_of: Copy, tmp_path: Path) -> None:
    fresh = Target(f"sqlite:///{tmp_path / 'fresh' / 'mlflow.db'}", "evergreen", (tmp_path / "f").as_uri())
    processes = [tracker(source_of(name), fresh) for name in ("small", "flat")]
    assert [process.communicate(timeout=200) and process.returncode for process in processes] == [0, 0]
    assert len(names(fresh)) == 8
    assert num_rows(fresh)[0] == 8


def test_a_tracker_that_cannot_begin_says_why(source_of: Copy, target: Target) -> None:
    lost = replace(job(source_of(), target), ledger_url="sqlite:////nowhere/evergreen.db")
    with pytest.raises(LedgerError, match="There is no ledger"):
        follow(lost, lambda text: None)


def test_a_damaged_database_of_mlflow_is_told_in_words(source_of: Copy, tmp_path: Path) -> None:
    database = tmp_path / "damaged.db"
    database.write_bytes(b"no database " * 100)
    damaged = Target(f"sqlite:///{database}", "evergreen", None)
    with pytest.raises(TrackerError, match=r"MLflow at .*damaged\.db up to date failed: file is not a database"):
        send_now(job(source_of(), damaged), lambda text: None)


def test_a_tracker_outlives_a_ledger_that_is_away(
    source_of: Copy, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "PAUSES_S", (0.01,))
    source = source_of()
    absences = {"open": 2, "run": 2}

    def away(what: str) -> None:
        if absences[what]:
            absences[what] -= 1
            raise LedgerAway("the server is restarting")

    opened, run = Ledger.open, Reading.run
    monkeypatch.setattr(Ledger, "open", lambda *args, **more: (away("open"), opened(*args, **more))[1])
    monkeypatch.setattr(Reading, "run", lambda *args: (away("run"), run(*args))[1])
    said: list[str] = []
    follow(job(source, target), said.append)
    assert [text for text in said if "the server is restarting Trying again in 0 s" in text] == said[:4]
    assert "the run is finished" in said[-1]
