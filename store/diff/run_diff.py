"""The comparison of two runs as a whole, and of what they were told to do, field by field."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from store import checkpoints
from store.diff.step_diff import Difference, compare_boundaries, compare_stages, compare_steps, steps
from store.export.rows import open_rows
from store.ledger import Reading
from store.ledger import tables as t
from store.run_summary import leaves
from store.secrets import values_without_logins
from store.sentences import what_is_missing

OWN = ("name",)  # of a spec: what makes it this run's, and no difference


@dataclass(frozen=True)
class Field:
    """A field in which two runs differ; None: it is not there."""

    name: str  # dotted
    a: Any
    b: Any


@dataclass(frozen=True)
class DiffSide:
    """A run, where it is remembered and where its checkpoints are."""

    reading: Reading
    name: str
    folder: Path


@dataclass(frozen=True)
class Length:
    """How far a run is."""

    status: str
    num_steps: int
    num_boundaries: int

    @property
    def reached(self) -> tuple[int, int]:
        """Steps and boundaries done."""
        return self.num_steps, self.num_boundaries


@dataclass(frozen=True)
class Digests:
    """The hashes of a run, and the step of the checkpoint whose weights they cover."""

    step: int
    digest: str
    digest_all: str


@dataclass(frozen=True)
class Diff:
    """Two runs side by side."""

    a: str
    b: str
    is_equal: bool  # the same things were done and found, and the weights are the same, bit for bit
    spec: Sequence[Field]
    environments: Sequence[Field]  # versions
    host: Sequence[Field]
    first: Difference | None  # None: all that both have recorded is equal
    num_compared_steps: int
    num_different_steps: int
    num_compared_boundaries: int
    num_different_boundaries: int
    lengths: Sequence[Length]  # of A and B
    digests: Sequence[
        Digests | None
    ] = ()  # of both, when nothing recorded differs; None: no whole checkpoint
    missing: Sequence[str | None] = (None, None)  # what the records of both lack


def diff(a: DiffSide, b: DiffSide, tell: Callable[[str], None] = lambda words: None) -> Diff:
    """Compare two runs, of one ledger or of two. Reads both once, a step at a time."""
    readings, names = (a.reading, b.reading), (a.name, b.name)
    runs = [side.reading.run(side.name) for side in (a, b)]
    lengths = [Length(run.status, run.num_steps, run.num_boundaries) for run in runs]
    num_steps = min(length.num_steps for length in lengths)
    with open_rows(a.reading, a.name) as rows_a, open_rows(b.reading, b.name) as rows_b:
        step, num_different = compare_steps(steps(rows_a, num_steps), steps(rows_b, num_steps), tell)
        boundaries = compare_boundaries(readings, names, (rows_a, rows_b))
    stages = compare_stages(readings, names)
    found = [(one.step, order, one) for order, one in enumerate([step, *boundaries[:1], *stages[:1]]) if one]
    first = min(found, key=lambda one: one[:2])[2] if found else None
    is_done = first is None and lengths[0].reached == lengths[1].reached
    missing = [what_is_missing(side.reading.gaps(side.name)) for side in (a, b)]
    digests = [_digests(side, tell) for side in (a, b)] if is_done and missing == [None, None] else []
    return Diff(
        *names,
        is_equal=bool(digests) and None not in digests and digests[0] == digests[1],
        spec=different(*(side.reading.spec(side.name) for side in (a, b))),
        environments=different(*(versions(side.reading, side.name) for side in (a, b))),
        host=different(*(side.reading.host(side.name) for side in (a, b))),
        first=first,
        num_compared_steps=num_steps,
        num_different_steps=num_different,
        num_compared_boundaries=min(length.num_boundaries for length in lengths),
        num_different_boundaries=len(boundaries),
        lengths=lengths,
        digests=digests,
        missing=missing,
    )


def _digests(side: DiffSide, tell: Callable[[str], None]) -> Digests | None:
    tell(f"hashing {side.name}")
    record, _ = checkpoints.newest_valid(side.folder, side.reading.checkpoints(side.name))
    if record is None:
        return None
    weights = checkpoints.weights_sha256(side.folder / record.folder)
    read = side.reading
    return Digests(record.step, read.digest(side.name, weights), read.digest_all(side.name, weights))


def different(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Field]:
    """List the fields of two nested maps that are not equal, in the order of the first map, then the second's own."""
    flat_a, flat_b = (dict(leaves(values_without_logins(data))) for data in (a, b))
    pairs = {name: (flat_a.get(name), flat_b.get(name)) for name in (flat_a | flat_b) if name not in OWN}
    return [Field(name, *pair) for name, pair in pairs.items() if pair[0] != pair[1]]


def versions(reading: Reading, run: str) -> dict[str, str]:
    """Give the versions of the environments that a run has measured, by name."""
    query = sa.select(t.environment.c.name, t.environment.c.version).select_from(t.with_names(t.eval_cell))
    query = query.where(t.eval_cell.c.run_id == reading.run_id(run)).distinct().order_by(t.environment.c.name)
    return dict(map(tuple, reading.fetch(query)))
