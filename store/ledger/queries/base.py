"""What all questions share: a run's rows of a table as objects, by name instead of key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, TypeVar

from sqlalchemy import Engine, Executable, Select, Table, select
from sqlalchemy.sql import ColumnElement

from store.errors import LedgerError, did_you_mean
from store.ledger import tables as t
from store.ledger.access import Access, Patience

Answer = TypeVar("Answer")
Answers = Sequence[Any]  # rows with the columns that their query names, as attributes


class Queries:
    """A ledger open for reading."""

    def __init__(self, engine: Engine, patience: Patience | None = None) -> None:
        self.engine = engine
        self.access = Access(engine, patience)

    def run_id(self, name: str) -> int:
        """Return a run's key in the tables."""
        found = self.access.read(lambda c: c.scalar(select(t.run.c.run_id).where(t.run.c.name == name)))
        if found is not None:
            return int(found)
        names = self.access.read(lambda c: c.scalars(select(t.run.c.name)).all())
        meant = did_you_mean(name, names, 3) or " `evergreen ls` shows what there is."
        raise LedgerError(f"The ledger {self.engine.url!r} has no run {name!r}.{meant}")

    def ask(self, answer: type[Answer], query: Select[Any]) -> list[Answer]:
        """Make an object of every row."""
        return self.access.read(lambda c: [answer(**row) for row in c.execute(query).mappings()])

    def fetch(self, query: Executable) -> Answers:
        """Return the rows as they are."""
        return self.access.read(lambda connection: connection.execute(query).all())

    def rows_of(self, name: str, answer: type[Any], table: Table, *more: ColumnElement[Any]) -> Select[Any]:
        """Select a run's rows of a table: the columns that the answer has, and more from joined tables."""
        query = select(*columns_of(answer, table, *more)).select_from(t.with_names(table))
        return query.where(table.c.run_id == self.run_id(name))


def columns_of(answer: type[Any], table: Table, *more: ColumnElement[Any]) -> list[ColumnElement[Any]]:
    """List the columns that an answer has: a table's, the names behind its keys, and those of `more`."""
    given = {column.key for column in more}
    names = [field.name for field in fields(answer) if field.name not in given]
    return [*(table.c[name] if name in table.c else t.name_or_null(name) for name in names), *more]


def same_step(table: Table) -> ColumnElement[bool]:
    """Join a table with the steps that its rows are of."""
    return (t.step.c.run_id == table.c.run_id) & (t.step.c.step == table.c.step)


def within(step: ColumnElement[Any], after: int, until: int | None) -> tuple[ColumnElement[bool], ...]:
    """Choose the steps later than `after`, up to `until`."""
    return (step > after,) if until is None else (step > after, step <= until)


def bin_of(step: ColumnElement[Any], width: int) -> ColumnElement[Any]:
    """Number a step's bin; steps count from 1."""
    return (step - 1) // width
