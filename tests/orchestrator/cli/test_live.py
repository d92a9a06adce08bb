from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest
from rich.console import Console

import orchestrator
from orchestrator.callbacks import Callback
from orchestrator.cli import screen
from orchestrator.cli.ledger_replay import recalled
from orchestrator.cli.live_region import LiveRegion
from orchestrator.cli.screen import Live, Screen, can_draw, on_screen
from orchestrator.os_signals import STOPPING
from tests.orchestrator.cli.terminals import Clock, FakeTerminal, Tty
from tests.orchestrator.specs import alone, small
from tests.shares import share


def without_clock(text: str) -> list[str]:
    """Make times equal, and leave out the lines of steady progress, which depend on them."""
    lines = [re.sub(r"^ *\d+:\d\d  |\(\d+ s\)$", "0:00  ", line.rstrip()) for line in text.splitlines()]
    return [line for line in lines if not re.match(r"0:00    (step|batch|evaluating) ", line)]


@pytest.mark.parametrize("lines", share([12, 40], 1))
def test_after_a_run_only_the_plain_lines_are_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: int
) -> None:
    orchestrator.run(alone(), home=tmp_path, watcher=Screen(tmp_path))
    _, *plain = without_clock(capsys.readouterr().out)
    terminal = FakeTerminal(250, lines)
    with LiveRegion(terminal) as region:
        orchestrator.run(alone(), home=tmp_path, watcher=Live(Screen(tmp_path), region))
    assert terminal.screen.num_drawings > 3
    assert terminal.screen.cursor_is_visible
    assert without_clock("\n".join(terminal.screen.shown())) == plain


def test_of_many_environments_the_lowest_and_the_highest_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = alone(steps=1, stages=1)
    spec["environments"] = {f"one{k:02}": spec["environments"]["one"] for k in range(screen.MOST_NAMED + 1)}
    orchestrator.run(spec, home=tmp_path, watcher=Screen(tmp_path))
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "before training" in line)
    assert f"accuracy (entropy) of {screen.MOST_NAMED + 1} environments, mean " in line
    named = re.findall(r"one\d\d (\S+) \(", line)
    assert len(named) == 2 * screen.NAMED_ENDS
    assert [float(one) for one in named] == sorted(float(one) for one in named)


def test_the_view_shows_the_moment_while_the_run_goes(tmp_path: Path) -> None:
    terminal = FakeTerminal(100, 40)

    seen = []

    class Looking(Live):
        def show(self, urgent: bool = False) -> None:
            clock.s += 1.0
            super().show(urgent)
            seen.append("\n".join(terminal.screen.shown()))

    clock = Clock()
    with LiveRegion(terminal, clock) as region:
        live = Looking(Screen(tmp_path), region)
        orchestrator.run(small(), home=tmp_path, watcher=live)
    for words in (
        *("warm start, loss", "finding the held-out tasks", "evaluating ", "of 6  evaluating"),
        *("stage 3 of 3: ", "step 2 of 3", "step 9 of 9", "held-out before training: accuracy; entropy"),
        *("held-out after stage 3: accuracy; entropy, left", "reward .", "s a step: ", " left"),
    ):
        assert any(words in shown for shown in seen), words


def test_a_signal_is_answered_at_once_and_the_note_stays(tmp_path: Path) -> None:
    terminal = FakeTerminal(100, 40)
    with LiveRegion(terminal) as region:
        live = Live(Screen(tmp_path), region)

        class Stopped(Callback):
            def step(self, at, record) -> None:  # type: ignore[no-untyped-def]
                if at.step == 2:
                    live.stopping()
                    assert STOPPING in "\n".join(terminal.screen.shown())

        both = Both(live, Stopped())
        orchestrator.run(alone(), home=tmp_path, watcher=both)
        assert live.note == STOPPING


class Both(Callback):
    """Passes everything on to two watchers."""

    def __init__(self, *watchers: Callback) -> None:
        for name in (n for n in vars(Callback) if not n.startswith("_")):
            setattr(self, name, lambda *told, name=name: [getattr(w, name)(*told) for w in watchers] and None)


def test_a_failing_run_leaves_a_clean_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Failing(Live):
        def stage(self, at) -> None:  # type: ignore[no-untyped-def]
            super().stage(at)
            raise OSError("no space left")

    terminal = FakeTerminal(100, 40)
    with pytest.raises(OSError, match="no space left"), LiveRegion(terminal) as region:
        orchestrator.run(alone(), home=tmp_path, watcher=Failing(Screen(tmp_path), region))
    assert terminal.screen.cursor_is_visible
    assert terminal.screen.shown()[-1].endswith("stage 1 of 2: one")
    assert "alone failed. Go on with: " in capsys.readouterr().err


def test_a_run_that_goes_on_shows_what_it_had_learnt_before(tmp_path: Path) -> None:
    orchestrator.run(alone(steps=4), home=tmp_path, until_step=5)
    from orchestrator.runs.api import resume

    seen = []
    with LiveRegion(FakeTerminal()) as region:
        live = Live(Screen(tmp_path), region, recall=lambda name: recalled(tmp_path, name))

        class Looking(Callback):
            def step(self, at, record) -> None:  # type: ignore[no-untyped-def]
                seen.append(live.course.snapshot())

        resume("alone", home=tmp_path, watcher=Both(live, Looking()))
    assert seen[0].step == 6
    assert len(seen[0].standings) == 1
    assert seen[0].standings[0].change is not None
    assert live.course.snapshot() == recalled(tmp_path, "alone").snapshot()


@pytest.mark.parametrize(
    ("stream", "environ", "live"),
    [
        (Tty(), {"TERM": "xterm-256color"}, True),
        (io.StringIO(), {"TERM": "xterm-256color"}, False),
        (Tty(), {"TERM": "dumb"}, False),
        (Tty(), {}, False),
        (Tty(), {"TERM": "xterm", "CI": "true"}, False),
    ],
    ids=["terminal", "pipe", "dumb", "no TERM", "CI"],
)
def test_only_a_terminal_is_drawn_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stream: io.StringIO, environ: dict[str, str], live: bool
) -> None:
    for name in ("TERM", "CI"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", stream)
    assert can_draw() == live
    with on_screen(tmp_path) as watcher:
        assert isinstance(watcher, Live if live else Screen)
    assert stream.getvalue() == "", "nothing is written before a run begins"


def test_plain_lines_are_text_and_one_line_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.StringIO()
    monkeypatch.setattr(screen, "out", Console(file=printed, width=120))
    lines = Screen(tmp_path)
    lines.event(["[red]boo[/x]\x1b[2J\nsecond line"])
    lines.decision(["\x1b]0;title\x07"])
    assert "! [red]boo[/x]\ufffd[2J second line" in printed.getvalue()
    assert "\x1b" not in printed.getvalue()
    assert len(printed.getvalue().splitlines()) == 2
