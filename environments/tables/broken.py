"""Rows that cannot be used: why, and what is told of them. None is dropped without a word."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

LISTED = 1000  # broken rows told one by one; beyond them their reasons are counted
LONGEST = 200  # characters of a reason


class Broken(Exception):
    """A row cannot be used: `kind` says why in words that many rows share, `detail` what it is in this one."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind


@dataclass
class LeftOut:
    """The broken rows of a table, in the order in which they were found."""

    counts: Counter[str] = field(default_factory=Counter)  # kind: rows
    first: list[str] = field(default_factory=list)  # "file:line: reason" of at most `LISTED`
    _told: Counter[str] = field(default_factory=Counter)

    def add(self, file: str, line: int, broken: Broken) -> None:
        """Note a row of a file; `line` counts from 1."""
        self.counts[broken.kind] += 1
        if len(self.first) < LISTED:
            self.first.append(f"{file}:{line}: {shortened(str(broken))}")
            self._told[broken.kind] += 1

    @property
    def num_rows(self) -> int:
        """How many rows are broken."""
        return self.counts.total()

    def lines(self) -> tuple[str, ...]:
        """Tell the first ones one by one, and count the others by reason."""
        beyond = self.counts - self._told
        return (*self.first, *(f"{num_rows:,} more: {kind}" for kind, num_rows in beyond.most_common()))


def shortened(text: str, length: int = LONGEST) -> str:
    """Cut a text that came out of data to a length, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 3]}..."
