"""A file of rows, whatever its format, and those of its rows that cannot be used: none is dropped without a word."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from environments.contracts import Flaw
from environments.display import shortened

LISTED = 1000  # invalid rows listed one by one; beyond them their reasons are counted
LONGEST = 200  # characters of a reason

Row = Mapping[str, Any]


class RowFile(ABC):
    """The rows of a file: gone through once in order, then read one by one."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name  # messages call it by the path as the user wrote it
        self.columns: Set[str] | None = None  # those that are read; None: all
        self.warnings: list[str] = []  # what looks wrong with the file as a whole; of the newest pass over its rows

    def narrow(self, columns: Set[str] | None) -> None:
        """Read no more than these columns from now on, where that spares work."""
        self.columns = columns

    @abstractmethod
    def rows(self) -> Iterator[tuple[int, Row | InvalidRow]]:
        """Go through all rows, each with its line, from 1; EnvironmentFault if the file as a whole cannot be read."""

    @abstractmethod
    def row(self, number: int) -> Row:
        """Read one row by its place, from 0, among those that `rows` gave, once it came to its end; or InvalidRow."""

    def place(self, number: int) -> str:
        """Say where a row is that `row` reads, for people: the file and the line."""
        return f"{self.name}:{number + 1}"

    def whole(self, row: Row) -> Row:
        """Give a row that has been read with all columns of the file, those that were left away as in its first row."""
        return row

    def head(self, n: int) -> list[Row]:
        """Give the first `n` rows that can be read, with all their columns."""
        return list(islice((row for _, row in self.rows() if not isinstance(row, InvalidRow)), n))


class InvalidRow(Exception):
    """A row cannot be used: `kind` says why in words that many rows share, `detail` what it is in this one."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind, self.detail = kind, detail

    @classmethod
    def found(cls, kind: str, value: object, length: int = 80, remedy: str = "") -> InvalidRow:
        """Refuse a row for a value, which is shown."""
        try:
            shown = repr(value)
        except (ValueError, RecursionError):  # a number of thousands of digits, lists in lists without end
            shown = f"{type(value).__name__} too large to be shown"
        return cls(kind, f"found {shortened(shown, length)}{remedy}")


def row_or_fault(read: Callable[[], Row]) -> Row | InvalidRow:
    """Read a row; where it cannot be used, give why."""
    try:
        return read()
    except InvalidRow as invalid:
        return invalid


@dataclass
class InvalidRows:
    """The invalid rows of a table, in the order in which they were found."""

    first: list[str] = field(default_factory=list)  # "file:line: reason" of at most `LISTED`
    _counts: Counter[tuple[str, bool]] = field(default_factory=Counter)  # (kind, whether held out): rows
    _firsts: dict[tuple[str, bool], str] = field(default_factory=dict)  # the same: the first of them
    _listed: Counter[str] = field(default_factory=Counter)  # kind: rows in `first`

    def add(self, file: str, line: int, invalid: InvalidRow, is_held_out: bool) -> None:
        """Add a row of a file; `line` counts from 1."""
        key = invalid.kind, is_held_out
        self._counts[key] += 1
        if key not in self._firsts:
            detail = f": {shortened(invalid.detail)}" if invalid.detail else ""
            self._firsts[key] = f"{file}:{line}{detail}"
        if len(self.first) < LISTED:
            self.first.append(f"{file}:{line}: {shortened(str(invalid))}")
            self._listed[invalid.kind] += 1

    @property
    def num_rows(self) -> int:
        """How many rows are invalid."""
        return self._counts.total()

    def flaws(self, is_held_out: bool | None = None) -> list[Flaw]:
        """Count the rows by reason, of one part or of both: the rarest reason first, as the easiest to overlook."""
        counts, firsts = Counter[str](), dict[str, str]()
        for (kind, part), num in self._counts.items():
            if is_held_out in (None, part):
                counts[kind] += num
                firsts.setdefault(kind, self._firsts[kind, part])
        return [Flaw(kind, num, firsts[kind]) for kind, num in sorted(counts.items(), key=itemgetter(1))]

    def lines(self) -> tuple[str, ...]:
        """List the first ones one by one, and count the others by reason."""
        beyond = Counter({flaw.kind: flaw.num_rows for flaw in self.flaws()}) - self._listed
        return (*self.first, *(f"{num_rows:,} more: {kind}" for kind, num_rows in beyond.most_common()))
