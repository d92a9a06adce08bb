"""Questions about a run's course: stages, steps, boundaries and what they measured, kept samples, events."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from store.ledger import tables as t
from store.ledger.queries.base import Queries, same_step
from store.ledger.query_rows import BoundaryRow, CellRow, EventRow, SampleRow, StageRow, StepRow
from store.metrics import metric as known_metric
from store.records import HoldoutRecord


class CourseQueries(Queries):
    """What a run did and found, in order."""

    def stages(self, name: str) -> list[StageRow]:
        """The stages that have started."""
        return self.ask(StageRow, self.rows_of(name, StageRow, t.stage).order_by(t.stage.c.stage))

    def steps(self, name: str, after: int = 0) -> list[StepRow]:
        """The steps later than `after`."""
        query = self.rows_of(name, StepRow, t.step).where(t.step.c.step > after)
        return self.ask(StepRow, query.order_by(t.step.c.step))

    def boundaries(self, name: str) -> list[BoundaryRow]:
        """The boundaries that have been measured."""
        query = self.rows_of(name, BoundaryRow, t.boundary, t.eval_config.c.settings)
        return self.ask(BoundaryRow, query.order_by(t.boundary.c.after_stage))

    def matrix(self, name: str, metric: str, split: str | None = None) -> list[CellRow]:
        """A metric after stage i on environment j, for environments as wholes and for their categories.

        Without a split: what reports show, which is never what a scheduler looked at (`select`).
        """
        row = t.eval_cell.c
        query = self.rows_of(name, CellRow, t.eval_cell).where(
            t.metric_def.c.name == known_metric(metric).name,
            row.split != "select" if split is None else row.split == split,
        )
        return self.ask(CellRow, query.order_by(row.after_stage, row.environment_id, row.category_id))

    def measured(self, name: str, after_stage: int) -> set[str]:
        """Name the environments that a boundary has measured."""
        row = t.eval_cell.c
        query = (
            select(t.environment.c.name)
            .join(t.eval_cell, row.environment_id == t.environment.c.environment_id)
            .where(row.run_id == self.run_id(name), row.after_stage == after_stage)
        )
        return self.access.read(lambda connection: set(connection.scalars(query.distinct())))

    def holdouts(self, name: str) -> list[HoldoutRecord]:
        """The tasks that the categories were evaluated on; more than one set if they were changed."""
        environment, category, row = t.name_or_null("environment"), t.name_or_null("category"), t.holdout.c
        cells = select(t.eval_cell.c.holdout_id).where(t.eval_cell.c.run_id == self.run_id(name))
        query = (
            select(environment, category, row.purpose, row.sha256, row.num_items)
            .select_from(t.with_names(t.holdout))
            .where(row.holdout_id.in_(cells), row.holdout_id != 0)
            .order_by(environment, category, row.purpose, row.sha256)
        )
        return self.ask(HoldoutRecord, query.distinct())

    def samples(
        self,
        name: str,
        environment: str | None = None,
        failed: bool = False,
        stage: int | None = None,
        limit: int = 20,
    ) -> list[SampleRow]:
        """Kept completions, the newest step first. `failed`: only those not correct; `stage`: from its training."""
        row = t.sample.c
        query = self.rows_of(name, SampleRow, t.sample)
        if environment is not None:
            query = query.where(t.environment.c.name == environment)
        if failed:
            query = query.where(row.correct.is_not(True))
        if stage is not None:
            query = query.join(t.step, same_step(t.sample))
            query = query.where(t.step.c.stage == stage, row.after_stage.is_(None))
        return self.ask(SampleRow, query.order_by(row.step.desc(), row.sample_id).limit(limit))

    def boundary_samples(self, name: str, after_stages: Sequence[int], num_slots: int) -> list[SampleRow]:
        """Completions kept at boundaries, of the first `num_slots` tasks of every category."""
        row = t.sample.c
        query = self.rows_of(name, SampleRow, t.sample)
        query = query.where(row.after_stage.in_(after_stages), row.slot < num_slots)
        order = (row.environment_id, row.category_id, row.slot, row.sample, row.after_stage)
        return self.ask(SampleRow, query.order_by(*order))

    def events(self, name: str, skip: int = 0) -> list[EventRow]:
        """Decisions and incidents, in order, without the first `skip`."""
        query = self.rows_of(name, EventRow, t.event)
        return self.ask(EventRow, query.order_by(t.event.c.step, t.event.c.event_id).offset(skip))
