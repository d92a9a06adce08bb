"""What a run's record lacks: steps and boundaries that were done, as later rows and checkpoints say, without rows.

A record has gaps when a ledger was lost, or an older copy put in its place, and the run went on from a checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from sqlalchemy import Connection, func, select

from store.ledger import tables as t
from store.ledger.query_rows import Gaps, Span


def gaps(connection: Connection, run_id: int) -> Gaps:
    """Find them; cheap for a whole record."""
    checkpoint = t.checkpoint.c
    covered = select(
        func.coalesce(func.max(checkpoint.step), 0), func.coalesce(func.max(checkpoint.num_boundaries), 0)
    ).where(checkpoint.run_id == run_id)
    num_steps, num_boundaries = connection.execute(covered).one()
    step = select(t.step.c.step).where(t.step.c.run_id == run_id)
    boundary = select(t.boundary.c.after_stage).where(t.boundary.c.run_id == run_id)
    count = connection.scalar(select(func.count()).select_from(step.subquery()))
    last = connection.scalar(select(func.max(t.step.c.step)).where(t.step.c.run_id == run_id)) or 0
    is_whole = count == max(last, num_steps)
    return Gaps(
        () if is_whole else _missing(connection.scalars(step), 1, num_steps),
        _missing(connection.scalars(boundary), 0, num_boundaries - 1),
    )


def _missing(found: Iterable[int], first: int, last: int) -> tuple[Span, ...]:
    """List the stretches of numbers that are not there, up to `last` or the last that is."""
    there = sorted(found)
    ends = [first - 1, *there, max(last, there[-1] if there else 0) + 1]
    return tuple((a + 1, b - 1) for a, b in pairwise(ends) if b > a + 1)
