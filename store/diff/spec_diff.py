"""What two runs were told to do, and on what: specs, environments, versions, field by field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from store.ledger import Reading
from store.ledger import tables as t
from store.secrets import values_without_logins

OWN = ("name",)  # of a spec: what makes it this run's, and no difference


@dataclass(frozen=True)
class Field:
    """A field in which two runs differ; None: it is not there."""

    name: str  # dotted
    a: Any
    b: Any


def different(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Field]:
    """List the fields of two nested maps that are not equal, in the order of the first map, then the second's own."""
    flat_a, flat_b = (dict(_flat(values_without_logins(data))) for data in (a, b))
    names = [name for name in dict.fromkeys([*flat_a, *flat_b]) if name not in OWN]
    return [
        Field(name, flat_a.get(name), flat_b.get(name))
        for name in names
        if flat_a.get(name) != flat_b.get(name)
    ]


def versions(reading: Reading, run: str) -> dict[str, str]:
    """Give the versions of the environments that a run has measured, by name."""
    cell = t.eval_cell.c
    query = (
        sa.select(t.environment.c.name, t.environment.c.version)
        .join(t.eval_cell, cell.environment_id == t.environment.c.environment_id)
        .where(cell.run_id == reading.run_id(run))
        .distinct()
        .order_by(t.environment.c.name)
    )
    rows = reading.access.read(lambda connection: connection.execute(query).all())
    return {name: version for name, version in rows}  # noqa: C416  rows are no pairs to mypy


def _flat(data: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Name every leaf by its path; an empty map is a leaf."""
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value
