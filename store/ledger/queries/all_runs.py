"""Questions about all runs at once: a page of a thousand runs is a handful of queries, and not a handful a run.

`only` names the runs that are wanted, None: all that there are. Rows have the column `run`, the run's name.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.sql import ColumnElement

from store.ledger import tables as t
from store.ledger.queries.base import Answers, Queries
from store.metrics import metric as known_metric

Only = Collection[str] | None
_RUN = t.run.c.name.label("run")


class AllRunsQueries(Queries):
    """What many runs were told, measured and ended with."""

    def all_specs(self, only: Only = None) -> dict[str, dict[str, Any]]:
        """Return every run's resolved spec, by name."""
        return {run: dict(spec) for run, spec in self.fetch(_wanted(select(_RUN, t.run.c.spec), only))}

    def all_boundary_steps(self, only: Only = None) -> dict[str, int]:
        """Return the steps done at every run's last boundary, by name."""
        query = select(_RUN, func.max(t.boundary.c.step)).select_from(t.boundary.join(t.run)).group_by(_RUN)
        return {run: int(step) for run, step in self.fetch(_wanted(query, only))}

    def all_boundary_times(self, only: Only = None) -> dict[str, str]:
        """Return when every run's last boundary was written, by name."""
        row = t.boundary.c
        last = select(row.run_id, func.max(row.after_stage).label("after_stage")).group_by(row.run_id).subquery()
        is_last = (row.run_id == last.c.run_id) & (row.after_stage == last.c.after_stage)
        query = select(_RUN, row.created_at).select_from(t.boundary.join(last, is_last).join(t.run))
        return {run: str(at) for run, at in self.fetch(_wanted(query, only))}

    def all_cells(self, metrics: Sequence[str], only: Only = None) -> Answers:
        """Every environment's cells after every stage: run, metric, after_stage, environment, value."""
        row, environment = t.eval_cell.c, t.environment.c.name.label("environment")
        query = (
            select(_RUN, t.metric_def.c.name.label("metric"), row.after_stage, environment, row.value)
            .select_from(t.eval_cell.join(t.run, t.run.c.run_id == row.run_id).join(t.metric_def).join(t.environment))
            .where(
                t.metric_def.c.name.in_([known_metric(metric).name for metric in metrics]),
                row.environment_id != 0,
                row.category_id == 0,
                row.split.in_(("anchor", "own")),
            )
            .order_by(row.run_id, row.after_stage, row.environment_id)
        )
        return self.fetch(_wanted(query, only))

    def all_last_events(self, kinds: Sequence[str], only: Only = None) -> dict[str, str]:
        """Return the text of every run's last event of these kinds, by name."""
        last: ColumnElement[int] = func.max(t.event.c.event_id)
        newest = select(last).where(t.event.c.kind.in_(kinds)).group_by(t.event.c.run_id)
        query = select(_RUN, t.event.c.text).select_from(t.event.join(t.run))
        query = query.where(t.event.c.event_id.in_(newest))
        return {run: str(text) for run, text in self.fetch(_wanted(query, only))}


def _wanted(query: Select[Any], only: Only) -> Select[Any]:
    return query if only is None else query.where(t.run.c.name.in_(only))
