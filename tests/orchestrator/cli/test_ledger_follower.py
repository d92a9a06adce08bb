from __future__ import annotations

import json
import shutil
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from orchestrator.cli import show
from orchestrator.runs.catalog import opened
from store.lock import run_lock
from store.records import EventRecord
from tests.conftest import Evergreen
from tests.integration.processes import Process
from tests.orchestrator.cli.terminals import FakeTerminal
from tests.orchestrator.specs import alone, written


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show, "POLL_S", 0.02)


@pytest.fixture
def home(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished home, to change how its runs ended."""
    return Path(shutil.copytree(finished, tmp_path / "home"))


def ended(home: Path, status: str, *events: EventRecord) -> None:
    with opened(home, "small") as (_, ledger):
        run = ledger.open_run("small")
        ledger.set_status(run, status)  # type: ignore[arg-type]
        for event in events:
            ledger.record_event(run, 9, event)


def test_following_a_finished_run_says_so_and_ends(finished: Path, evergreen: Evergreen) -> None:
    result = evergreen("show", "small", "--follow", "--home", finished)
    assert result.exit_code == 0
    assert result.stdout.startswith("small finished after 9 steps. `evergreen show small")


def test_a_killed_run_is_told_as_killed(home: Path, evergreen: Evergreen) -> None:
    ended(home, "running")  # and nobody holds it
    told = " ".join(evergreen("show", "small", "--follow", "--home", home).stdout.split())
    assert "small was killed after step 9: nobody runs it any more; it wrote last " in told
    assert " ago. Go on with: evergreen resume small" in told


@pytest.mark.parametrize("status", ["stopped", "failed"])
def test_how_a_run_ended_is_told_with_its_reason(home: Path, evergreen: Evergreen, status: str) -> None:
    ended(home, status, EventRecord(status, "disk is\nfull [bold]"))
    told = " ".join(evergreen("show", "small", "--follow", "--home", home).stdout.split())
    assert f"small {status} at step 9: disk is full [bold]. Go on with: evergreen resume small" in told


def test_ctrl_c_ends_the_looking_and_leaves_the_run_alone(
    home: Path, evergreen: Evergreen, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    ended(home, "running")
    monkeypatch.setattr(show.time, "sleep", interrupted)
    with run_lock(home / "small"):
        result = evergreen("show", "small", "--follow", "--home", home)
    assert result.exit_code == 0
    assert "small goes on, nobody looks. `evergreen stop small" in result.stdout
    with opened(home, "small") as (_, ledger):
        assert ledger.reading.run("small").status == "running"


def test_on_a_terminal_the_same_view_is_drawn_and_leaves_nothing_behind(
    home: Path, evergreen: Evergreen, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal, lock, seen = FakeTerminal(100, 40), ExitStack(), []

    def look(seconds: float) -> None:
        seen.append("\n".join(terminal.screen.shown()))
        if len(seen) == 3:
            lock.close()

    ended(home, "running", EventRecord("unscorable", "[b]boo"))
    lock.enter_context(run_lock(home / "small"))
    for name, value in (("can_draw", lambda: True), ("Terminal", lambda stream: terminal), ("POLL_S", 0.0)):
        monkeypatch.setattr(show, name, value)
    monkeypatch.setattr(show.time, "sleep", look)
    result = evergreen("show", "small", "--follow", "--home", home)
    assert "small  stage 3 of 3: " in seen[0]
    assert "held-out after stage 3: accuracy; entropy, left" in seen[0]
    assert "! step 9: [b]boo" in seen[0]
    assert "written " in seen[-1]
    assert terminal.screen.shown() == []
    assert terminal.screen.cursor_is_visible
    assert "small was killed after step 9" in result.stdout


def test_in_a_pipe_new_stages_boundaries_and_events_are_lines_and_it_ends_with_the_run(
    tmp_path: Path, evergreen: Evergreen
) -> None:
    process = Process(tmp_path, "run", written(tmp_path, alone(steps=4, stages=200)), "--home", tmp_path)
    process.wait_for_step(tmp_path, "alone", 1)
    with opened(tmp_path, "alone") as (_, ledger):
        seen = ledger.reading.run("alone").num_boundaries

    def interrupted_later(seconds: float) -> None:
        with opened(tmp_path, "alone") as (_, ledger):
            if ledger.reading.run("alone").num_boundaries >= seen + 3:
                process.signal(signal.SIGTERM)
                process.end()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(show.time, "sleep", interrupted_later)
        result = evergreen("show", "alone", "--follow", "--home", tmp_path)
    assert result.exit_code == 0
    assert f"after stage {seen + 1}: accuracy (entropy) one " in result.stdout
    assert f"stage {seen + 2} of 200: one" in result.stdout
    assert " of 800  one: reward " in result.stdout
    assert "alone stopped at step" in result.stdout
    assert ": SIGTERM. Go on with: evergreen resume alone" in " ".join(result.stdout.split())


def test_a_run_without_a_step_is_waited_for_in_words(
    tmp_path: Path, evergreen: Evergreen, monkeypatch: pytest.MonkeyPatch
) -> None:
    import orchestrator
    from tests.integration.runs import At, Killed, kill

    with pytest.raises(Killed):
        orchestrator.run(alone(), home=tmp_path, watcher=At(1, kill))  # at its first boundary
    with opened(tmp_path, "alone") as (_, ledger):
        ledger.rewind(ledger.open_run("alone"), 0, 0)

    lock = ExitStack()
    lock.enter_context(run_lock(tmp_path / "alone"))
    monkeypatch.setattr(show.time, "sleep", lambda seconds: lock.close())
    result = evergreen("show", "alone", "--follow", "--home", tmp_path)
    assert show.WAITING in result.stdout
    assert "alone was killed after step 0: nobody runs it any more. Go on" in " ".join(result.stdout.split())


def test_following_is_for_looking(finished: Path, evergreen: Evergreen) -> None:
    result = evergreen("show", "small", "--follow", "--json", "--home", finished)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--follow is for looking" in result.stderr


def test_events_are_printed_in_order_with_step_and_time(home: Path, evergreen: Evergreen) -> None:
    ended(home, "finished", EventRecord("unscorable", "[red]3 samples\x1b[2J"))
    printed = evergreen("show", "small", "--events", "--home", home).stdout.splitlines()
    assert printed[-1].startswith("step 9  20")
    assert printed[-1].endswith("! [red]3 samples\ufffd[2J")
    listed = json.loads(evergreen("show", "small", "--events", "--json", "--home", home).stdout)
    assert len(listed) == len(printed)
    assert listed[-1]["kind"] == "unscorable"
    assert [event["step"] for event in listed] == sorted(event["step"] for event in listed)
