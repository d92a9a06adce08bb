"""The live view in a real pseudo-terminal, with real signals."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from codecs import getincrementaldecoder
from pathlib import Path

import pytest

from orchestrator.cli import main
from orchestrator.cli.live_region import PER_SECOND
from tests.integration.processes import PATIENCE_S, Process
from tests.orchestrator.cli.terminals import Screenful
from tests.orchestrator.specs import Raw, alone, written
from tests.shares import share

COLUMNS, LINES = 60, 20


def on_terminal(path: str, *words: object) -> None:
    """Run a command line with a terminal for stdin, stdout and stderr."""
    os.setsid()
    terminal = os.open(path, os.O_RDWR)  # the first one that a session opens controls it: Ctrl-C works
    for descriptor in range(3):
        os.dup2(terminal, descriptor)
    os.environ["TERM"] = "xterm-256color"
    os.environ.pop("CI", None)
    sys.argv = ["evergreen", *map(str, words)]
    main()


class Session:
    """A person at a terminal, looking at a run."""

    def __init__(self, folder: Path, spec: Raw) -> None:
        self.keyboard, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self.screen, self._decode = Screenful(COLUMNS, LINES), getincrementaldecoder("utf-8")().decode
        self.begun_at = time.monotonic()
        words = ("run", written(folder, spec), "--home", folder)
        self.process = Process(folder, os.ttyname(terminal), *words, call=on_terminal)
        self._terminal = terminal

    def look(self, until: str | None = None) -> None:
        """Look until some words appear, or until nothing more comes from the run."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if until is not None and until in "\n".join(self.screen.shown()):
                return
            if select.select([self.keyboard], [], [], 0.05)[0]:
                self.screen.feed(self._decode(os.read(self.keyboard, 65536)))
            elif until is None and not self.process.is_going():
                return
        raise AssertionError(f"{until!r} did not appear; there is:\n" + "\n".join(self.screen.shown()))

    def discards_output(self) -> bool:
        """Whether Ctrl-C throws away what is written and not shown yet."""
        return not termios.tcgetattr(self._terminal)[3] & termios.NOFLSH

    def press_ctrl_c(self) -> None:
        """What the terminal makes of it is the terminal's business."""
        os.write(self.keyboard, b"\x03")


@pytest.mark.parametrize("number", share([signal.SIGINT, signal.SIGTERM], 1))
def test_a_stopped_run_gives_a_clean_terminal_back(tmp_path: Path, number: int) -> None:
    session = Session(tmp_path, alone(steps=100_000))
    session.look(until=" s a step: ")
    assert not session.screen.cursor_is_visible
    session.press_ctrl_c() if number == signal.SIGINT else session.process.signal(number)
    session.look()
    exit_code, _ = session.process.end()
    shown = session.screen.shown()
    assert exit_code == 75
    assert session.screen.cursor_is_visible
    assert sum("Stopping once this step is saved" in line for line in shown) == 1
    assert not [line for line in shown if "━" in line or "s a step" in line], "nothing of the view remains"
    assert f"resumealone--home{tmp_path}" in "".join("".join(shown).split()), "lines are folded"
    assert max(map(len, shown)) <= COLUMNS
    assert session.screen.num_drawings <= PER_SECOND * (time.monotonic() - session.begun_at + 1)


def test_a_killed_run_gives_a_clean_terminal_back(tmp_path: Path) -> None:
    spec = alone(character="slow") | {"step": {"groups": 4, "group_size": 4}}  # .8 s a step
    session = Session(tmp_path, spec)
    assert session.discards_output()
    session.look(until="step 1 of 3")
    assert not session.discards_output(), "with it would go the end of a drawing"
    session.press_ctrl_c()
    session.look(until="Stopping once this step is saved")
    session.press_ctrl_c()
    session.look()
    exit_code, _ = session.process.end()
    assert exit_code == 130
    assert session.discards_output(), "as it was found"
    assert session.screen.cursor_is_visible
    assert "goes on from its last checkpoint" in " ".join("".join(session.screen.shown()).split())
    assert not [line for line in session.screen.shown() if "━" in line]
