"""Questions about plasticity: the network, probes, what changed the policy, what looking cost, who looked."""

from __future__ import annotations

from sqlalchemy import select

from store.ledger import query_rows as q
from store.ledger import tables as t
from store.ledger.queries.base import Answers, Queries
from store.turnover import Turnover, turnover


class PlasticityQueries(Queries):
    """What was measured of the policy at boundaries beside its matrices, and what was done there."""

    def turnover(self, name: str) -> list[Turnover]:
        """What a run gained, lost and repaired from boundary to boundary, by environment."""
        return turnover(self._outcomes(name))

    def _outcomes(self, name: str) -> Answers:
        """Give the items without what is not asked for, their answers above all."""
        row, names = t.eval_item.c, (t.environment.c.name.label("environment"), t.category.c.name.label("category"))
        columns = (row.after_stage, row.item, row.task_key, row.num_scored, row.num_correct, *names)
        query = select(*columns).select_from(t.with_names(t.eval_item)).where(row.run_id == self.run_id(name))
        return self.fetch(query.order_by(row.after_stage, row.environment_id, row.category_id, row.item))

    def network(self, name: str, metric: str | None = None) -> list[q.NetworkRow]:
        """Numbers of the network by boundary and layer; of one metric, or of all."""
        row = t.network_cell.c
        query = self.rows_of(name, q.NetworkRow, t.network_cell)
        if metric is not None:
            query = query.where(t.metric_def.c.name == metric)
        return self.ask(q.NetworkRow, query.order_by(row.metric_id, row.after_stage, row.layer))

    def probes(self, name: str) -> list[q.ProbeRow]:
        """The probes of a run, by kind, task, boundary and seed; their points are asked for apart."""
        row = t.probe.c
        query = self.rows_of(name, q.ProbeRow, t.probe)
        return self.ask(q.ProbeRow, query.order_by(row.kind, row.task, row.after_stage, row.seed))

    def probe_points(self, name: str, metric: str | None = None) -> list[q.ProbePointRow]:
        """The curves of the probes: of one metric, or of all."""
        row = t.probe_point.c
        query = self.rows_of(name, q.ProbePointRow, t.probe_point)
        if metric is not None:
            query = query.where(t.metric_def.c.name == metric)
        order = (row.kind, row.task, row.after_stage, row.seed, row.metric_id, row.step)
        return self.ask(q.ProbePointRow, query.order_by(*order))

    def interventions(self, name: str) -> list[q.InterventionRow]:
        """What changed the policy between stages, in order."""
        row = t.intervention.c
        query = self.rows_of(name, q.InterventionRow, t.intervention)
        return self.ask(q.InterventionRow, query.order_by(row.after_stage, row.number))

    def measurements(self, name: str) -> list[q.MeasurementRow]:
        """What was looked at when, and what it cost."""
        row = t.measurement.c
        query = self.rows_of(name, q.MeasurementRow, t.measurement)
        return self.ask(q.MeasurementRow, query.order_by(row.after_stage, row.name))

    def holdout_queries(self, name: str) -> list[q.HoldoutQueryRow]:
        """Every look at held-out tasks that could change a decision."""
        query = self.rows_of(name, q.HoldoutQueryRow, t.holdout_query)
        return self.ask(q.HoldoutQueryRow, query.order_by(t.holdout_query.c.holdout_query_id))
