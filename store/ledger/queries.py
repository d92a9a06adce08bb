"""Questions to the ledger. Answers are small frozen rows, by name; a run may be writing meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, TypeVar

from sqlalchemy import Engine, Select, Table, case, func, select
from sqlalchemy.sql import ColumnElement, FromClause

from store.errors import LedgerError
from store.ledger import aggregate_queries, category_queries, lineage, live_queries
from store.ledger import query_rows as a
from store.ledger import tables as t
from store.ledger.access import Access
from store.ledger.digest import digest, digest_all
from store.ledger.gaps import gaps
from store.ledger.patience import Patience
from store.metrics import metric as known_metric
from store.records import CheckpointRecord

Answer = TypeVar("Answer")

# row 0 stands for all of them: no name
ENVIRONMENT = case((t.environment.c.environment_id != 0, t.environment.c.name)).label("environment")
CATEGORY = case((t.category.c.category_id != 0, t.category.c.name)).label("category")
METRIC = t.metric_def.c.name.label("metric")


class Reading:
    """A ledger open for reading. Every method takes the run's name; an unknown one is a `LedgerError`."""

    def __init__(self, engine: Engine, patience: Patience | None = None) -> None:
        self.engine = engine
        self.access = Access(engine, patience)

    # --- runs ----------------------------------------------------------------------------------------

    def runs(self) -> list[a.Run]:
        """All runs, oldest first."""
        return self._ask(a.Run, _runs().order_by(t.run.c.run_id))

    def run(self, name: str) -> a.Run:
        """One run."""
        return self._ask(a.Run, _runs().where(t.run.c.run_id == self.run_id(name)))[0]

    def run_id(self, name: str) -> int:
        """Return a run's key in the tables."""
        found = self.access.read(lambda c: c.scalar(select(t.run.c.run_id).where(t.run.c.name == name)))
        if found is not None:
            return int(found)
        names = self.access.read(lambda c: c.scalars(select(t.run.c.name)).all())
        near = get_close_matches(name, names, 3)
        hint = (
            f" Did you mean {' or '.join(map(repr, near))}?"
            if near
            else " `evergreen ls` shows what there is."
        )
        raise LedgerError(f"The ledger {self.engine.url!r} has no run {name!r}.{hint}")

    def spec(self, name: str) -> dict[str, Any]:
        """Return the resolved spec that a run started with."""
        return self._json(t.run.c.spec, name)

    def host(self, name: str) -> dict[str, Any]:
        """Return what a run was made on: versions, threads, device."""
        return self._json(t.run.c.host, name)

    def baseline(self, name: str) -> str | None:
        """Name a run's twin with another bandit, if it has one."""
        return self.access.read(lambda connection: connection.scalar(lineage.baseline(name)))

    # --- studies -------------------------------------------------------------------------------------

    def studies(self) -> list[a.Study]:
        """All studies, oldest first."""
        study = t.study.c
        return self._ask(a.Study, select(study.name, study.plan, study.created_at).order_by(study.study_id))

    def study(self, name: str) -> a.Study:
        """One study."""
        known = {study.name: study for study in self.studies()}
        if name not in known:
            raise LedgerError(
                f"The ledger {self.engine.url!r} has no study {name!r}; it has: {', '.join(known) or 'none'}."
            )
        return known[name]

    def members(self, study: str) -> list[a.Member]:
        """The runs of a study, in the order in which they were started."""
        return self._ask(a.Member, lineage.members(self.study(study).name))

    # --- its course ----------------------------------------------------------------------------------

    def stages(self, name: str) -> list[a.Stage]:
        """The stages that have started."""
        query = self._of(name, a.Stage, t.stage, t.stage.join(t.environment), ENVIRONMENT)
        return self._ask(a.Stage, query.order_by(t.stage.c.stage))

    def boundaries(self, name: str) -> list[a.Boundary]:
        """The boundaries that have been measured."""
        source = t.boundary.join(t.eval_config)
        query = self._of(name, a.Boundary, t.boundary, source, t.eval_config.c.settings)
        return self._ask(a.Boundary, query.order_by(t.boundary.c.after_stage))

    def matrix(self, name: str, metric: str, split: str | None = None) -> list[a.Cell]:
        """A metric after stage i on environment j, for environments as wholes and for their categories.

        Without a split: what reports show, which is never what a scheduler looked at (`select`).
        """
        source = _named(t.eval_cell).join(t.metric_def).join(t.eval_config)
        config = t.eval_config.c.sha256.label("eval_config")
        query = self._of(name, a.Cell, t.eval_cell, source, ENVIRONMENT, CATEGORY, METRIC, config)
        query = query.where(t.metric_def.c.name == known_metric(metric).name)
        row = t.eval_cell.c
        query = query.where(row.split != "select" if split is None else row.split == split)
        return self._ask(a.Cell, query.order_by(row.after_stage, row.environment_id, row.category_id))

    def measured(self, name: str, after_stage: int) -> set[str]:
        """Name the environments that a boundary has measured."""
        row = t.eval_cell.c
        query = (
            select(t.environment.c.name)
            .join(t.eval_cell, row.environment_id == t.environment.c.environment_id)
            .where(row.run_id == self.run_id(name), row.after_stage == after_stage)
        )
        return self.access.read(lambda connection: set(connection.scalars(query.distinct())))

    def series(
        self, name: str, metric: str, environment: str | None = None, category: str | None = None
    ) -> list[a.Point]:
        """A training metric over the steps."""
        row = t.step_metric.c
        source = _named(t.step_metric).join(t.metric_def)
        query = self._of(name, a.Point, t.step_metric, source).where(
            t.metric_def.c.name == known_metric(metric).name,
            row.environment_id == 0 if environment is None else t.environment.c.name == environment,
            row.category_id == 0 if category is None else t.category.c.name == category,
        )
        return self._ask(a.Point, query.order_by(row.step))

    def last_metrics(self, name: str) -> list[a.Number]:
        """All training metrics of the last step."""
        row = t.step_metric.c
        source = _named(t.step_metric).join(t.metric_def)
        last = select(func.max(t.step.c.step)).where(t.step.c.run_id == self.run_id(name)).scalar_subquery()
        query = self._of(name, a.Number, t.step_metric, source, ENVIRONMENT, CATEGORY, METRIC)
        ordered = query.where(row.step == last).order_by(row.metric_id, row.environment_id, row.category_id)
        return self._ask(a.Number, ordered)

    def numbers(self, name: str, after: int = 0, until: int | None = None) -> list[a.Number]:
        """All training metrics of the steps later than `after`, up to `until`."""
        row = t.step_metric.c
        source = _named(t.step_metric).join(t.metric_def)
        query = self._of(name, a.Number, t.step_metric, source, ENVIRONMENT, CATEGORY, METRIC)
        order = (row.step, row.metric_id, row.environment_id, row.category_id)
        return self._ask(a.Number, query.where(*_within(row.step, after, until)).order_by(*order))

    def picks(self, name: str, after: int = -1, until: int | None = None) -> list[a.Pick]:
        """All decisions of the steps later than `after`; a scheduler's is at the steps done before its stage."""
        row = t.pick.c
        query = self._of(name, a.Pick, t.pick, t.pick.join(t.environment), ENVIRONMENT)
        order = (row.step, row.stage, row.level, row.slot)
        return self._ask(a.Pick, query.where(*_within(row.step, after, until)).order_by(*order))

    def arms(
        self, name: str, bandit: str | None = None, after: int = 0, until: int | None = None
    ) -> list[a.Arm]:
        """What the bandits knew after each step later than `after`; one bandit only, if named."""
        row = t.arm_state.c
        query = self._of(name, a.Arm, t.arm_state, t.arm_state).where(*_within(row.step, after, until))
        if bandit is not None:
            query = query.where(row.bandit == bandit)
        return self._ask(a.Arm, query.order_by(row.step, row.bandit, row.arm))

    def categories(self, name: str) -> list[a.Category]:
        """The categories that the run's bandits could pick."""
        return self._ask(a.Category, category_queries.categories(self.run_id(name)))

    def scores(self, name: str) -> list[a.GroupScores]:
        """How every group of training was scored."""
        return self._ask(a.GroupScores, category_queries.scores(self.run_id(name)))

    def curves(self, name: str, metrics: Sequence[str], width: int = 1) -> list[a.CurvePoint]:
        """Training metrics of every environment over the steps, averaged over bins of `width` steps."""
        known = [known_metric(metric).name for metric in metrics]
        return self._ask(a.CurvePoint, aggregate_queries.curves(self.run_id(name), known, width))

    def arm_curves(self, name: str, width: int = 1) -> list[a.ArmPoint]:
        """Every arm's probability over the steps, averaged over bins of `width` steps."""
        return self._ask(a.ArmPoint, aggregate_queries.arm_curves(self.run_id(name), width))

    def arm_paths(self, name: str) -> list[a.ArmPath]:
        """Where every arm's probability began, went and ended."""
        return self._ask(a.ArmPath, aggregate_queries.arm_paths(self.run_id(name)))

    def sums(self, name: str, metrics: Sequence[str]) -> dict[str, float]:
        """Sum training metrics of the whole batch over all steps; one that was never recorded is left out."""
        known = [known_metric(metric).name for metric in metrics]
        query = aggregate_queries.sums(self.run_id(name), known)
        rows = self.access.read(lambda connection: connection.execute(query).all())
        return {metric: total for metric, total in rows if total is not None}

    def extents(self, name: str, metrics: Sequence[str]) -> list[a.Extent]:
        """Mean and largest value of training metrics over all steps; of the whole batch first, then by environment."""
        known = [known_metric(metric).name for metric in metrics]
        return self._ask(a.Extent, aggregate_queries.extents(self.run_id(name), known))

    def stage_picks(self, name: str) -> list[a.StagePick]:
        """What a scheduler chose; nothing in flat mode."""
        query = self._of(name, a.StagePick, t.pick, t.pick).where(t.pick.c.level == "scheduler")
        return self._ask(a.StagePick, query.order_by(t.pick.c.stage))

    def allocation(self, name: str) -> list[a.Allocation]:
        """Where the samples went: by stage, environment, category and role."""
        row, stage = t.task_group.c, t.step.c.stage
        sums = [
            func.sum(row[key]).label(key) for key in ("num_scored", "num_correct", "value_sum", "num_samples")
        ]
        by = (
            stage,
            row.environment_id,
            row.category_id,
            t.environment.c.environment_id,
            t.category.c.category_id,
        )
        names = (t.environment.c.name, t.category.c.name)
        query = (
            select(stage, ENVIRONMENT, CATEGORY, row.role, func.count().label("num_groups"), *sums)
            .select_from(_named(t.task_group).join(t.step, _same_step(t.task_group)))
            .where(row.run_id == self.run_id(name))
            .group_by(*by, *names, row.role)
            .order_by(*by, row.role)
        )
        return self._ask(a.Allocation, query)

    def taught(self, name: str, reward: str) -> list[a.Taught]:
        """How many groups of every category had a signal in what the objective reads: `value` or `correct`."""
        return self._ask(a.Taught, aggregate_queries.taught(self.run_id(name), reward))

    def unscorable(self, name: str) -> list[a.Unscorable]:
        """How many samples could not be scored, and why."""
        row = t.task_group.c
        query = (
            select(t.environment.c.name, row.reasons)
            .select_from(_named(t.task_group))
            .where(row.run_id == self.run_id(name), row.num_scored < row.num_samples)
        )
        counts: Counter[tuple[str, str]] = Counter()
        for environment, reasons in self.access.read(lambda connection: connection.execute(query).all()):
            counts.update((environment, reason) for reason in reasons if reason is not None)
        return [a.Unscorable(*key, num) for key, num in sorted(counts.items())]

    def samples(
        self,
        name: str,
        environment: str | None = None,
        failed: bool = False,
        stage: int | None = None,
        limit: int = 20,
    ) -> list[a.Sample]:
        """Kept completions, the newest step first. `failed`: only those not correct; `stage`: from its training."""
        row = t.sample.c
        source = _named(t.sample).join(t.step, _same_step(t.sample), isouter=True)
        query = self._of(name, a.Sample, t.sample, source, ENVIRONMENT, CATEGORY)
        if environment is not None:
            query = query.where(t.environment.c.name == environment)
        if failed:
            query = query.where(row.correct.is_not(True))
        if stage is not None:
            query = query.where(t.step.c.stage == stage, row.after_stage.is_(None))
        return self._ask(a.Sample, query.order_by(row.step.desc(), row.sample_id).limit(limit))

    def holdouts(self, name: str) -> list[a.Holdout]:
        """The tasks that the categories were evaluated on; more than one set if they were changed."""
        cell, held_out = t.eval_cell.c, t.holdout.c
        query = (
            select(ENVIRONMENT, CATEGORY, held_out.purpose, held_out.sha256, held_out.num_items)
            .select_from(_named(t.holdout).join(t.eval_cell, cell.holdout_id == held_out.holdout_id))
            .where(cell.run_id == self.run_id(name), held_out.holdout_id != 0)
            .order_by(ENVIRONMENT, CATEGORY, held_out.purpose, held_out.sha256)
        )
        return self._ask(a.Holdout, query.distinct())

    def stage_means(self, name: str, metric: str, last: int) -> list[a.StageMean]:
        """A training metric of the environment that a stage trained, over the last steps of each ended stage."""
        known = known_metric(metric).name
        return self._ask(a.StageMean, aggregate_queries.stage_means(self.run_id(name), known, last))

    def stage_curves(self, name: str, metric: str, width: int = 1) -> list[a.StagePoint]:
        """The same over all steps of each ended stage, averaged over bins of `width` steps."""
        known = known_metric(metric).name
        return self._ask(a.StagePoint, aggregate_queries.stage_curves(self.run_id(name), known, width))

    def boundary_samples(self, name: str, after_stages: Sequence[int], num_slots: int) -> list[a.Sample]:
        """Completions kept at boundaries, of the first `num_slots` tasks of every category."""
        row = t.sample.c
        query = self._of(name, a.Sample, t.sample, _named(t.sample), ENVIRONMENT, CATEGORY)
        query = query.where(row.after_stage.in_(after_stages), row.slot < num_slots)
        order = (row.environment_id, row.category_id, row.slot, row.sample, row.after_stage)
        return self._ask(a.Sample, query.order_by(*order))

    def events(self, name: str, skip: int = 0) -> list[a.Event]:
        """Decisions and incidents, in order, without the first `skip`."""
        query = self._of(name, a.Event, t.event, t.event)
        return self._ask(a.Event, query.order_by(t.event.c.step, t.event.c.event_id).offset(skip))

    # --- what is new ---------------------------------------------------------------------------------

    def pulse(self, name: str) -> a.Pulse:
        """Where a run stands; nothing was written between two equal ones."""
        return self._ask(a.Pulse, live_queries.pulse(self.run_id(name)))[0]

    def steps(self, name: str, after: int = 0) -> list[a.Step]:
        """The steps later than `after`."""
        query = self._of(name, a.Step, t.step, t.step).where(t.step.c.step > after)
        return self._ask(a.Step, query.order_by(t.step.c.step))

    def pooled(self, name: str, metrics: Sequence[str], after: int = 0) -> list[a.Pooled]:
        """Training metrics of the whole batch, of the steps later than `after`."""
        known = [known_metric(metric).name for metric in metrics]
        return self._ask(a.Pooled, live_queries.pooled(self.run_id(name), known, after))

    # --- checkpoints and digests ---------------------------------------------------------------------

    def checkpoints(self, name: str) -> list[CheckpointRecord]:
        """The checkpoints that still exist, newest first."""
        row = t.checkpoint.c
        query = self._of(name, CheckpointRecord, t.checkpoint, t.checkpoint).where(row.deleted_at.is_(None))
        newest_first = (row.step.desc(), row.num_boundaries.desc(), row.checkpoint_id.desc())
        return self._ask(CheckpointRecord, query.order_by(*newest_first))

    def gaps(self, name: str) -> a.Gaps:
        """What the record of a run lacks; nothing, usually."""
        run_id = self.run_id(name)
        with self.engine.connect() as connection:
            return gaps(connection, run_id)

    def digest(self, name: str, weights_sha256: str) -> str:
        """Hash what was trained: see `store.ledger.digest`."""
        run_id = self.run_id(name)
        return self.access.read(lambda connection: digest(connection, run_id, weights_sha256))

    def digest_all(self, name: str, weights_sha256: str) -> str:
        """Hash what was trained and what was measured."""
        run_id = self.run_id(name)
        return self.access.read(lambda connection: digest_all(connection, run_id, weights_sha256))

    # --- plumbing ------------------------------------------------------------------------------------

    def _of(
        self, name: str, answer: type[Any], table: Table, source: FromClause, *more: ColumnElement[Any]
    ) -> Select[Any]:
        """Select a run's rows of a table: the columns that the answer has, and more from joined tables."""
        given = {column.key for column in more}
        own = [table.c[field.name] for field in fields(answer) if field.name not in given]
        return select(*own, *more).select_from(source).where(table.c.run_id == self.run_id(name))

    def _ask(self, answer: type[Answer], query: Select[Any]) -> list[Answer]:
        return self.access.read(
            lambda connection: [answer(**row) for row in connection.execute(query).mappings()]
        )

    def _json(self, column: ColumnElement[Any], name: str) -> dict[str, Any]:
        query = select(column).where(t.run.c.run_id == self.run_id(name))
        return dict(self.access.read(lambda connection: connection.execute(query).scalar_one()))


def _runs() -> Select[Any]:
    run, step, boundary = t.run.c, t.step.c, t.boundary.c
    last = select(step.step).where(step.run_id == run.run_id).order_by(step.step.desc()).limit(1)
    measured = select(func.max(boundary.after_stage)).where(boundary.run_id == run.run_id)
    computed = (
        func.coalesce(last.scalar_subquery(), 0).label("num_steps"),
        last.with_only_columns(step.created_at).scalar_subquery().label("last_step_at"),
        func.coalesce(measured.scalar_subquery() + 1, 0).label("num_boundaries"),
        *lineage.relatives(),
    )
    given = {column.key for column in computed}
    return select(*(run[field.name] for field in fields(a.Run) if field.name not in given), *computed)


def _named(table: Table) -> FromClause:
    """Join a table with the names of its environment and category."""
    environment, category = t.environment, t.category
    return table.join(environment, environment.c.environment_id == table.c.environment_id).join(
        category, category.c.category_id == table.c.category_id
    )


def _within(step: ColumnElement[Any], after: int, until: int | None) -> tuple[ColumnElement[bool], ...]:
    return (step > after,) if until is None else (step > after, step <= until)


def _same_step(table: Table) -> ColumnElement[bool]:
    return (t.step.c.run_id == table.c.run_id) & (t.step.c.step == table.c.step)
