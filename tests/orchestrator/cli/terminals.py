"""A terminal small enough to read: it knows what the live region writes, and fails at anything else."""

from __future__ import annotations

import io
import os
import re

from orchestrator.cli.live_region import Terminal

TOKEN = re.compile(r"\x1b\[(\??)([0-9;]*)([A-Za-z])|\r|\n|[^\x1b\r\n]+|\x1b")
UNFINISHED = re.compile(r"(\x1b(\[\??[0-9;]*)?)?\Z")


class Screenful:
    """What a person would see of a stream of characters, the lines that scrolled away included."""

    def __init__(self, columns: int = 80, lines: int = 24) -> None:
        self.columns, self.lines = columns, lines
        self.rows = [""]
        self.row = self.column = 0
        self.cursor_is_visible = True
        self.num_drawings = 0
        self._begun = ""  # of an escape, where what was read ends within it

    def feed(self, text: str) -> None:
        """Obey a stream, a piece of it at a time."""
        text = self._begun + text
        self._begun = UNFINISHED.search(text)[0]
        for token in TOKEN.finditer(text.removesuffix(self._begun)):
            self._obey(token)

    def shown(self) -> list[str]:
        """All lines, up to the last that is not empty."""
        lines = [row.rstrip() for row in self.rows]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    def _obey(self, token: re.Match[str]) -> None:
        _, number, command = token.groups()
        row = self.rows[self.row]
        if token[0] == "\r":
            self.column = 0
        elif token[0] == "\n":
            self._down()
        elif command == "A":
            self.row = max(0, len(self.rows) - self.lines, self.row - int(number or 1))
        elif command == "K":
            self.rows[self.row] = row[: self.column]
        elif command == "J":
            self.rows[self.row] = row[: self.column]
            del self.rows[self.row + 1 :]
        elif command in ("h", "l"):
            self._switch(number, command == "h")
        elif command != "m":
            assert not token[0].startswith("\x1b"), f"an escape that nobody here writes: {token[0]!r}"
            self._write(token[0])

    def _switch(self, mode: str, on: bool) -> None:
        assert mode in ("25", "2026"), mode
        if mode == "25":
            self.cursor_is_visible = on
        else:
            self.num_drawings += on

    def _write(self, text: str) -> None:
        for character in text:
            if self.column == self.columns:
                self.column = 0
                self._down()
            row = self.rows[self.row].ljust(self.column)
            self.rows[self.row] = row[: self.column] + character + row[self.column + 1 :]
            self.column += 1

    def _down(self) -> None:
        self.row += 1
        if self.row == len(self.rows):
            self.rows.append("")


class Tty(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class FakeTerminal(Terminal):
    """A terminal in memory."""

    def __init__(self, columns: int = 80, lines: int = 24, encoding: str = "utf-8") -> None:
        self.stream, self.encoding = Tty(), encoding
        self.screen = Screenful(columns, lines)
        self.written: list[str] = []

    def size(self) -> os.terminal_size:
        return os.terminal_size((self.screen.columns, self.screen.lines))

    def write(self, text: str) -> None:
        self.written.append(text.encode(self.encoding, "replace").decode(self.encoding))
        self.screen.feed(self.written[-1])


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s
