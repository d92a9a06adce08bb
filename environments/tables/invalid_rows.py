"""Rows that cannot be used: why, and what is told of them. None is dropped without a word."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from environments.contracts import Flaw

LISTED = 1000  # broken rows told one by one; beyond them their reasons are counted
LONGEST = 200  # characters of a reason


class InvalidRow(Exception):
    """A row cannot be used: `kind` says why in words that many rows share, `detail` what it is in this one."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind, self.detail = kind, detail


@dataclass
class InvalidRows:
    """The broken rows of a table, in the order in which they were found."""

    first: list[str] = field(default_factory=list)  # "file:line: reason" of at most `LISTED`
    _counts: Counter[tuple[str, bool]] = field(default_factory=Counter)  # (kind, whether held out): rows
    _firsts: dict[tuple[str, bool], str] = field(default_factory=dict)  # the same: the first of them
    _told: Counter[str] = field(default_factory=Counter)  # kind: rows in `first`

    def add(self, file: str, line: int, broken: InvalidRow, is_held_out: bool) -> None:
        """Note a row of a file; `line` counts from 1."""
        key = (broken.kind, is_held_out)
        self._counts[key] += 1
        if key not in self._firsts:
            self._firsts[key] = f"{file}:{line}" + (f": {shortened(broken.detail)}" if broken.detail else "")
        if len(self.first) < LISTED:
            self.first.append(f"{file}:{line}: {shortened(str(broken))}")
            self._told[broken.kind] += 1

    @property
    def num_rows(self) -> int:
        """How many rows are broken."""
        return self._counts.total()

    def flaws(self, is_held_out: bool | None = None) -> list[Flaw]:
        """Count the rows by reason, of one part or of both: the rarest reason first, as the easiest to overlook."""
        counts: Counter[str] = Counter()
        firsts: dict[str, str] = {}
        for (kind, part), num in self._counts.items():
            if is_held_out in (None, part):
                counts[kind] += num
                firsts.setdefault(kind, self._firsts[kind, part])
        return [Flaw(kind, counts[kind], firsts[kind]) for kind in sorted(counts, key=counts.__getitem__)]

    def lines(self) -> tuple[str, ...]:
        """Tell the first ones one by one, and count the others by reason."""
        beyond = Counter({flaw.kind: flaw.num_rows for flaw in self.flaws()}) - self._told
        return (*self.first, *(f"{num_rows:,} more: {kind}" for kind, num_rows in beyond.most_common()))


def shortened(text: str, length: int = LONGEST) -> str:
    """Cut a text that came out of data to a length, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 3]}..."
