"""What an exported table is: columns with a type, a unit and a meaning, and the ledger's table behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

# text, and what is text in both formats: "time" is ISO-8601 in UTC, "json" is one JSON value
Kind = Literal["text", "time", "json", "integer", "float", "boolean"]
Row = tuple[Any, ...]


@dataclass(frozen=True)
class Column:
    """A column, as the dictionary tells it."""

    name: str
    kind: Kind
    meaning: str
    unit: str = ""
    nullable: bool = False


@dataclass(frozen=True)
class Table:
    """A tidy table: one row an observation."""

    name: str
    meaning: str
    row: str  # what a row is
    columns: Sequence[Column]
    source: sa.Table | None = None  # of the ledger; None: put together by hand
    order: Sequence[str] = ()  # columns of the source that decide the order within a run
    reads: Sequence[str] = ()  # what is read of the source, where that is not simply the columns
    spread: Callable[[Row], Iterable[Row]] | None = None  # from a row that was read to exported ones

    @property
    def names(self) -> list[str]:
        """The columns' names, in order."""
        return [column.name for column in self.columns]
