from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest
from rich.text import Text

from orchestrator.cli.live_region import PER_SECOND, LiveRegion, Terminal
from tests.orchestrator.cli.terminals import Clock, FakeTerminal


def draw(*lines: str) -> Callable[[int, int], list[Text]]:
    return lambda columns, rows: [Text(line) for line in lines]


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_region_is_redrawn_in_place(clock: Clock) -> None:
    terminal = FakeTerminal()
    with LiveRegion(terminal, clock) as region:
        region.open()
        region.redraw(draw("one", "two", "three"))
        assert terminal.screen.shown() == ["one", "two", "three"]
        assert (terminal.screen.row, terminal.screen.column) == (0, 0), "where a resize cannot hurt"
        assert not terminal.screen.cursor_is_visible
        clock.s = 1
        region.redraw(draw("un", "deux"))
        assert terminal.screen.shown() == ["un", "deux"]
    assert terminal.screen.shown() == []
    assert terminal.screen.cursor_is_visible


def test_what_is_printed_meanwhile_stays_above_once(clock: Clock) -> None:
    terminal = FakeTerminal(columns=30, lines=5)
    with LiveRegion(terminal, clock) as region:
        region.open()
        for number in range(12):
            clock.s += 1
            print(f"line {number}")
            print("a warning", file=sys.stderr) if number == 3 else None
            region.redraw(draw(f"moment {number}", "-"))
        print("no end yet", end="")
        assert terminal.screen.shown()[-2:] == ["moment 11", "-"]
    lines = [f"line {number}" for number in range(12)]
    printed = [line for line in terminal.screen.shown() if line != "a warning"]
    assert printed == [*lines, "no end yet"]


@pytest.mark.parametrize("urgent", [False, True])
def test_there_are_never_more_than_four_drawings_in_a_second(clock: Clock, urgent: bool) -> None:
    terminal, times = FakeTerminal(), []
    with LiveRegion(terminal, clock) as region:
        region.open()
        for tick in range(1000):
            clock.s = tick / 100
            before = terminal.screen.num_drawings
            region.redraw(draw(f"tick {tick}"), urgent)
            times += [clock.s] * (terminal.screen.num_drawings - before)
    worst = max(sum(start <= at < start + 1 for at in times) for start in times)
    assert worst == (PER_SECOND if urgent else 2)
    assert len(times) == 10 * worst


def test_what_had_to_wait_comes_with_the_next_call(clock: Clock) -> None:
    terminal = FakeTerminal()
    with LiveRegion(terminal, clock) as region:
        region.open()
        for number in range(6):
            region.redraw(draw(f"stage {number}"), urgent=True)
        assert terminal.screen.shown() == ["stage 3"]
        clock.s = 1.0
        region.redraw(draw("step 1"))
        assert terminal.screen.shown() == ["step 1"]


def test_an_unchanged_picture_is_not_written_again(clock: Clock) -> None:
    terminal = FakeTerminal()
    with LiveRegion(terminal, clock) as region:
        region.open()
        for clock.s in range(10):
            region.redraw(draw("the same"))
        assert terminal.screen.num_drawings == 1


def test_an_exception_leaves_the_terminal_as_it_was() -> None:
    terminal, before = FakeTerminal(), (sys.stdout, sys.stderr)
    handler = signal.getsignal(signal.SIGTERM)
    region = LiveRegion(terminal)
    with pytest.raises(ZeroDivisionError), region:
        _draw_and_fail(region)
    assert (sys.stdout, sys.stderr) == before
    assert signal.getsignal(signal.SIGTERM) == handler
    assert terminal.screen.cursor_is_visible
    assert terminal.screen.shown() == []


def _draw_and_fail(region: LiveRegion) -> None:
    region.open()
    region.redraw(draw("here"))
    raise ZeroDivisionError


def test_a_signal_handler_may_say_something_at_once(clock: Clock) -> None:
    terminal = FakeTerminal()
    with LiveRegion(terminal, clock) as region:
        region.open()
        region.redraw(draw("one", "two"))
        region.print_now("Stopping")
        assert terminal.screen.shown() == ["Stopping", "one", "two"]
        clock.s = 1
        region.redraw(draw("three"))
        assert terminal.screen.shown() == ["Stopping", "three"]


def test_the_size_is_asked_for_at_every_drawing(clock: Clock) -> None:
    terminal, sizes = FakeTerminal(80, 24), []
    with LiveRegion(terminal, clock) as region:
        region.open()
        for columns in (80, 60):
            clock.s += 1
            terminal.screen.columns = columns
            region.redraw(lambda columns, lines: sizes.append((columns, lines)) or [Text(f"{columns}")])
    assert sizes == [(79, 23), (59, 23)]


def test_colours_are_left_out_where_they_are_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    coloured = {}
    for name in ("plain", "coloured"):
        terminal = FakeTerminal()
        monkeypatch.setenv("NO_COLOR", "1") if name == "plain" else monkeypatch.delenv("NO_COLOR", False)
        with LiveRegion(terminal) as region:
            region.open()
            region.redraw(lambda columns, lines: [Text("green", "green")])
        coloured[name] = "\x1b[32m" in "".join(terminal.written)
    assert coloured == {"plain": False, "coloured": True}


def test_a_terminal_that_cannot_draw_lines_gets_plain_characters() -> None:
    terminal = FakeTerminal(encoding="ascii")
    with LiveRegion(terminal) as region:
        region.open()
        region.redraw(draw("━━──"))
        assert terminal.screen.shown() == ["##--"]


def test_a_process_ended_by_sigterm_gives_the_terminal_back() -> None:
    code = """
import os, signal, sys
from rich.text import Text
from orchestrator.cli.live_region import LiveRegion
from tests.orchestrator.cli.terminals import FakeTerminal
terminal = FakeTerminal()
terminal.write = lambda text: os.write(1, text.encode())
with LiveRegion(terminal) as region:
    region.open()
    region.redraw(lambda columns, lines: [Text("here")])
    os.kill(os.getpid(), signal.SIGTERM)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGTERM
    assert "here" in done.stdout
    assert done.stdout.endswith("\x1b[J\x1b[?25h")


def test_a_frame_that_a_signal_cut_off_is_finished_before_what_follows() -> None:
    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    reading, writing = os.pipe()
    frame, before = "x" * 1_000_000, signal.signal(signal.SIGALRM, interrupt)
    with open(reading, "rb") as pipe, open(writing, "w") as stream:
        terminal = Terminal(stream)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            terminal.write(frame)  # more than the pipe holds, and nobody reads yet
        signal.signal(signal.SIGALRM, before)
        found: list[bytes] = []
        reader = threading.Thread(target=lambda: found.append(pipe.read()))
        reader.start()
        terminal.write("end")
        stream.close()
        reader.join()
    assert found == [f"{frame}end".encode()]
