"""The live region: the last lines of a terminal, redrawn in place without flicker, without a thread.

Between two drawings the cursor stays on the region's first column and line. So a drawing begins where it stands,
whatever a resize did to the lines below, and ends with everything below erased; each is one write, which terminals that
know synchronised output (mode 2026) show at once. What is printed meanwhile appears above the region, once, and
stays. Used as a context: the region is gone and the cursor visible when the block ends, at a signal that kills, and at
Ctrl-Z.

It is ours since `rich.live` cannot keep these promises: in a trial twenty prints in a fifth of a second made it draw 22
times. After SIGTERM and after Ctrl-Z it left its lines there and the cursor hidden.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import sys
import termios
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any, TextIO

from rich.text import Text

from orchestrator.cli.console import console

PER_SECOND = 4  # drawings, at most
EVERY_S = 0.5  # between two drawings of steady progress: calmer than the eye could follow anyway

SYNC_ON, SYNC_OFF = "\x1b[?2026h", "\x1b[?2026l"
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
ERASE_LINE, ERASE_BELOW = "\x1b[K", "\x1b[J"

LOCAL = 3  # place of the local flags in what `termios` gives

Draw = Callable[[int, int], Sequence[Text]]  # columns, lines -> the region's lines


class Terminal:
    """Where a region is: a stream that is a terminal."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.encoding = stream.encoding or "utf-8"
        self._is_gone = False  # closed while we draw: nobody looks any more
        self._is_changed = False  # its flag NOFLSH was set by us
        self._data, self._sizes = b"", list[int]()  # to write, and how much of it each write took

    def size(self) -> os.terminal_size:
        """Columns and lines."""
        return shutil.get_terminal_size() if self._is_gone else os.get_terminal_size(self.stream.fileno())

    def keep_output(self) -> None:
        """Set NOFLSH: a key that sends a signal (Ctrl-C) then discards no output that is not shown yet.

        Else it may discard the end of a drawing, which takes the cursor back to where the next one begins.
        """
        self._is_changed = self._set_noflsh(True)

    def restore(self) -> None:
        """Clear NOFLSH again, if it was set here."""
        if self._is_changed:
            self._set_noflsh(False)

    def _set_noflsh(self, on: bool) -> bool:
        """Set the flag of the terminal; whether that changed it. A process in the background leaves it alone."""
        with suppress(OSError, ValueError, termios.error):
            descriptor = self.stream.fileno()
            modes = termios.tcgetattr(descriptor)
            if bool(modes[LOCAL] & termios.NOFLSH) != on and os.tcgetpgrp(descriptor) == os.getpgrp():
                modes[LOCAL] ^= termios.NOFLSH
                termios.tcsetattr(descriptor, termios.TCSANOW, modes)
                return True
        return False

    def write(self, text: str) -> None:
        """Write at once, past all buffers: also a signal handler may. What a signal cut off is written first."""
        data = text.encode(self.encoding, "replace")
        self._data, self._sizes = self._data[sum(self._sizes) :] + data, []
        try:
            while not self._is_gone and (rest := self._data[sum(self._sizes) :]):
                # One call in C: no handler runs between a write and the note of its size.
                self._sizes.extend(map(os.write, (self.stream.fileno(),), (rest,)))
        except OSError:  # EIO of a terminal that hung up
            self._is_gone = True


class LiveRegion:
    """The live region of a terminal."""

    def __init__(self, terminal: Terminal, now: Callable[[], float] = time.monotonic) -> None:
        self._terminal, self._now = terminal, now
        self._console = console(file=terminal.stream)
        self._frame = ""  # as it was drawn last
        self.above: list[str] = []  # lines printed meanwhile, shown with the next drawing
        self._drawn_at: deque[float] = deque(maxlen=PER_SECOND)
        self._owed = False  # an urgent drawing had to wait
        self._before: tuple[TextIO, TextIO] | None = None  # stdout and stderr; None: not open
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> LiveRegion:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Take the terminal: from now on what is printed goes through here."""
        sys.stdout.flush()
        sys.stderr.flush()
        self._before = (sys.stdout, sys.stderr)
        sys.stdout = _Printed(self, sys.stdout)
        if sys.stderr.isatty():
            sys.stderr = _Printed(self, sys.stderr)
        if threading.current_thread() is threading.main_thread():
            kills = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is signal.SIG_DFL]
            self._handlers = {n: signal.signal(n, self._leave) for n in (*kills, signal.SIGTSTP)}
        self._terminal.keep_output()
        self._terminal.write(HIDE)

    def close(self) -> None:
        """Leave the terminal as a plain program would; a second time does nothing."""
        if self._before is None:
            return
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, _Printed):
                stream.finish()
        sys.stdout, sys.stderr = self._before
        self._before = None
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._terminal.write("\r" + ERASE_BELOW + self._pending() + SHOW)
        self._terminal.restore()

    def print_now(self, line: str) -> None:
        """Put a line above the region at once, as a signal handler may."""
        self._terminal.write(f"\r{ERASE_BELOW}{self._pending()}{line}\r\n{self._frame}")

    def redraw(self, draw: Draw, urgent: bool = False) -> None:
        """Draw, unless it is too soon: `urgent` things wait only for the limit of drawings a second."""
        if self._before is None:
            return
        now, urgent = self._now(), urgent or self._owed
        since = now - self._drawn_at[-1] if self._drawn_at else EVERY_S
        may_draw = sum(now - at < 1 for at in self._drawn_at) < PER_SECOND and (urgent or since >= EVERY_S)
        self._owed = urgent and not may_draw
        if not may_draw:
            return
        columns, lines = self._terminal.size()
        frame = self._compose(draw(columns - 1, lines - 1))  # a full last column would wrap on some terminals
        if self.above or frame != self._frame:
            erase = "\r" + ERASE_BELOW if self.above else ""
            self._frame = frame
            self._terminal.write(SYNC_ON + erase + self._pending() + frame + SYNC_OFF)
            self._drawn_at.append(self._now())

    def _compose(self, lines: Sequence[Text]) -> str:
        """Make one string of a region's lines that leaves the cursor where it found it."""
        with self._console.capture() as captured:
            self._console.print(Text("\n").join(lines), end="")
        rows = captured.get().split("\n")
        if not self._terminal.encoding.lower().startswith("utf"):
            rows = [row.replace("━", "#").replace("─", "-") for row in rows]
        up = f"\x1b[{len(rows) - 1}A" if len(rows) > 1 else ""
        return "\r" + f"{ERASE_LINE}\r\n".join(rows) + ERASE_BELOW + up + "\r"

    def _pending(self) -> str:
        lines, self.above = self.above, []
        return "".join(f"{line}\r\n" for line in lines)

    def _leave(self, number: int, frame: FrameType | None) -> None:
        """Give the terminal back before a signal does its work; after Ctrl-Z and `fg`, take it again."""
        self._terminal.write("\r" + ERASE_BELOW + SHOW)
        self._terminal.restore()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(number, self._leave)
        self._terminal.keep_output()
        self._terminal.write(HIDE + self._frame)


class _Printed(io.TextIOBase):
    """Stands for stdout or stderr while a region is open: whole lines go above it."""

    def __init__(self, region: LiveRegion, stream: TextIO) -> None:
        self._region, self._stream, self._rest = region, stream, ""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        """Keep what does not end a line yet."""
        *lines, self._rest = (self._rest + text).split("\n")
        self._region.above.extend(lines)
        return len(text)

    def finish(self) -> None:
        """End an unfinished line."""
        if self._rest:
            self.write("\n")
