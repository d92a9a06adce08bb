"""A run's rows as plain tuples, by name instead of key, streamed in order. For whoever reads all of a run.

Names are looked up here rather than joined in SQL: rows then come straight off an index, whatever the database's
planner thinks, and a run of any length takes the memory of a few thousand rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import ColumnElement

from store.ledger import Reading
from store.ledger import tables as t
from store.ledger.access import Access, Result

Row = tuple[Any, ...]
ROWS_AT_ONCE = 1000


class RunRows:
    """One run, open for reading all of it, as it was when the first row was read."""

    def __init__(self, connection: sa.Connection, run_id: int, reading: Reading) -> None:
        self.reading = reading  # answers as of that moment, too
        self._connection, self._run_id = connection, run_id
        self._names: dict[str, Mapping[int, Any]] = {}

    def of(self, source: sa.Table, columns: Sequence[str], *only: ColumnElement[bool]) -> Iterator[Row]:
        """Stream these columns of a table by its key, numbered rows by their place; JSON comes as its text."""
        kept = [source.c[t.key_of(one).name if one in t.NAMES else one] for one in columns]
        query = sa.select(*map(_as_kept, kept)).where(source.c.run_id == self._run_id, *only)
        key = [column for column in source.primary_key if column is not source.c.run_id]
        if not source.c.run_id.primary_key:
            key = [source.c["step" if "step" in source.c else "after_stage"], *key]
        query = query.order_by(*key)
        found = self._connection.execute(query, execution_options={"yield_per": ROWS_AT_ONCE})
        lookups = [(place, self._names_of(one)) for place, one in enumerate(columns) if one in t.NAMES]
        for row in found:
            values = list(row)
            for place, names in lookups:
                values[place] = names[values[place]]
            yield tuple(values)

    def _names_of(self, name: str) -> Mapping[int, Any]:
        """Read what a name's keys stand for; row 0, all of them, has no name."""
        if name not in self._names:
            query = sa.select(t.key_of(name), _as_kept(t.NAMES[name]))
            self._names[name] = {key: one if key else None for key, one in self._connection.execute(query)}
        return self._names[name]


@contextmanager
def open_rows(reading: Reading, run: str) -> Iterator[RunRows]:
    """Open a run for reading all of it."""
    with reading.access.explaining("Reading"), reading.engine.connect() as connection:
        if connection.dialect.name == "postgresql":  # SQLite's reading transactions see one moment anyway
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        then = Reading(reading.engine)
        then.access = _OneMoment(connection)
        yield RunRows(connection, then.run_id(run), then)


class _OneMoment(Access):
    """A ledger as a transaction sees it."""

    def __init__(self, connection: sa.Connection) -> None:
        super().__init__(connection.engine)
        self._connection = connection

    def read(self, work: Callable[[sa.Connection], Result]) -> Result:
        return work(self._connection)


def _as_kept(column: sa.Column[Any]) -> ColumnElement[Any]:
    return sa.type_coerce(column, sa.Text) if isinstance(column.type, t.Json) else column
