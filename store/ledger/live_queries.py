"""Questions of somebody who follows a run: what is new. Small, so that they can be asked every second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, Table, func, select
from sqlalchemy.sql import ColumnElement

from store.ledger import tables as t


def pulse(run_id: int) -> Select[Any]:
    """Where a run stands, in one row."""
    return select(
        t.run.c.status,
        _of(t.step, run_id, func.coalesce(func.max(t.step.c.step), 0)).label("num_steps"),
        _of(t.stage, run_id, func.count()).label("num_stages"),
        _of(t.boundary, run_id, func.count()).label("num_boundaries"),
        _of(t.event, run_id, func.count()).label("num_events"),
    ).where(t.run.c.run_id == run_id)


def pooled(run_id: int, metrics: Sequence[str], after: int) -> Select[Any]:
    """Training metrics of the whole batch, of the steps after step number `after`."""
    row, name = t.step_metric.c, t.metric_def.c.name
    return (
        select(row.step, name.label("metric"), row.value)
        .select_from(t.step_metric.join(t.metric_def))
        .where(row.run_id == run_id, row.step > after, row.environment_id == 0, name.in_(metrics))
        .order_by(row.step)
    )


def _of(table: Table, run_id: int, what: ColumnElement[Any]) -> Any:
    return select(what).where(table.c.run_id == run_id).scalar_subquery()
