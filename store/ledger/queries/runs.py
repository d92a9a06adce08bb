"""Questions about runs: how they stand and are related, their studies and checkpoints, and what they did, in order."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection, Select, Table, case, func, select
from sqlalchemy.sql import ColumnElement

from store.carryover import Journey, Matrices
from store.errors import LedgerError
from store.ledger import query_rows as q
from store.ledger import tables as t
from store.ledger.digest import MEASURED, TRAINED, digest
from store.ledger.queries.base import Queries, columns_of, same_step
from store.metrics import metric as known_metric
from store.records import FINAL, CheckpointRecord, Gaps, HoldoutRecord, Span
from store.sampling import Sampling, is_plain, sampling_of

# every run with the one that it was forked from, its place in a study, and the one whose twin it is
_PARENT, _OTHER = t.run.alias("parent"), t.run.alias("other")
_RELATED = (
    t.run.outerjoin(t.lineage, t.lineage.c.run_id == t.run.c.run_id)
    .outerjoin(_PARENT, _PARENT.c.run_id == t.lineage.c.parent_id)
    .outerjoin(t.member, t.member.c.run_id == t.run.c.run_id)
    .outerjoin(t.study, t.study.c.study_id == t.member.c.study_id)
    .outerjoin(t.twin, t.twin.c.run_id == t.run.c.run_id)
    .outerjoin(_OTHER, _OTHER.c.run_id == t.twin.c.of_id)
)
_STUDY = t.study.c.name.label("study")
_LAST = select(t.step.c.step).where(t.step.c.run_id == t.run.c.run_id).order_by(t.step.c.step.desc()).limit(1)
_MEASURED = select(func.max(t.boundary.c.after_stage)).where(t.boundary.c.run_id == t.run.c.run_id)
_RUNS = select(
    *columns_of(
        q.RunRow,
        t.run,
        func.coalesce(_LAST.scalar_subquery(), 0).label("num_steps"),
        _LAST.with_only_columns(t.step.c.created_at).scalar_subquery().label("last_step_at"),
        func.coalesce(_MEASURED.scalar_subquery() + 1, 0).label("num_boundaries"),
        _PARENT.c.name.label("parent"),
        t.lineage.c.parent_stage,
        _STUDY,
        t.member.c.setting,
        _OTHER.c.name.label("baseline_of"),
    )
).select_from(_RELATED)


class RunQueries(Queries):
    """Runs, studies, and the course of a run."""

    def runs(self) -> list[q.RunRow]:
        """All runs, oldest first."""
        return self.ask(q.RunRow, _RUNS.order_by(t.run.c.run_id))

    def run(self, name: str) -> q.RunRow:
        """One run."""
        return self.ask(q.RunRow, _RUNS.where(t.run.c.run_id == self.run_id(name)))[0]

    def spec(self, name: str) -> dict[str, Any]:
        """Return the resolved spec that a run started with."""
        return self._json(t.run.c.spec, name)

    def host(self, name: str) -> dict[str, Any]:
        """Return what a run was made on: versions, threads, device."""
        return self._json(t.run.c.host, name)

    def _json(self, column: ColumnElement[Any], name: str) -> dict[str, Any]:
        ((found,),) = self.fetch(select(column).where(t.run.c.run_id == self.run_id(name)))
        return dict(found)

    def num_rows(self, name: str) -> int:
        """Count what the ledger holds of a run."""
        run_id = self.run_id(name)
        tables = [table for table in t.metadata.sorted_tables if "run_id" in table.c]
        counts = (select(func.count()).select_from(one).where(one.c.run_id == run_id) for one in tables)
        return sum(int(count) for query in counts for (count,) in self.fetch(query))

    def baseline(self, name: str) -> str | None:
        """Name a run's twin with other settings, if it has one; the newest of several."""
        query = select(t.run.c.name).select_from(_RELATED).where(_OTHER.c.name == name)
        newest = query.order_by(t.run.c.run_id.desc()).limit(1)
        return next((str(twin) for (twin,) in self.fetch(newest)), None)

    def studies(self) -> list[q.StudyRow]:
        """All studies, oldest first."""
        return self.ask(q.StudyRow, select(*columns_of(q.StudyRow, t.study)).order_by(t.study.c.study_id))

    def study(self, name: str) -> q.StudyRow:
        """One study."""
        known = {study.name: study for study in self.studies()}
        if name not in known:
            there = ", ".join(known) or "none"
            raise LedgerError(f"The ledger {self.engine.url!r} has no study {name!r}; it has: {there}.")
        return known[name]

    def members(self, study: str) -> list[q.MemberRow]:
        """The runs of a study, in the order in which they were started."""
        columns = (_STUDY, t.member.c.setting, t.member.c.changes, t.run.c.name.label("run"))
        query = select(*columns_of(q.MemberRow, t.run, *columns)).select_from(_RELATED)
        query = query.where(t.study.c.name == self.study(study).name)
        return self.ask(q.MemberRow, query.order_by(t.run.c.run_id))

    def pulse(self, name: str) -> q.Pulse:
        """Where a run stands, in one row, small enough to be asked every second."""
        run_id = self.run_id(name)

        def of(table: Table, what: ColumnElement[Any]) -> Any:
            return select(what).where(table.c.run_id == run_id).scalar_subquery()

        query = select(
            t.run.c.status,
            of(t.step, func.coalesce(func.max(t.step.c.step), 0)).label("num_steps"),
            of(t.stage, func.count()).label("num_stages"),
            of(t.boundary, func.count()).label("num_boundaries"),
            of(t.event, func.count()).label("num_events"),
        )
        return self.ask(q.Pulse, query.where(t.run.c.run_id == run_id))[0]

    def checkpoints(self, name: str) -> list[CheckpointRecord]:
        """The checkpoints that still exist, newest first."""
        row = t.checkpoint.c
        query = self.rows_of(name, CheckpointRecord, t.checkpoint).where(row.deleted_at.is_(None))
        is_later = case((row.kind == "intervention", 1), else_=0)  # at one position, than the boundary's
        newest_first = (row.step.desc(), row.num_boundaries.desc(), is_later.desc(), row.checkpoint_id.desc())
        return self.ask(CheckpointRecord, query.order_by(*newest_first))

    def gaps(self, name: str) -> Gaps:
        """What the record of a run lacks; nothing, usually, and then it is cheap."""
        run_id, step, checkpoint = self.run_id(name), t.step.c.step, t.checkpoint.c

        def of(table: Table, *what: ColumnElement[Any]) -> Select[Any]:
            return select(*what).where(table.c.run_id == run_id)

        def highest(column: ColumnElement[Any]) -> ColumnElement[Any]:
            return func.coalesce(func.max(column), 0)

        covered = of(t.checkpoint, highest(checkpoint.step), highest(checkpoint.num_boundaries))

        def look(connection: Connection) -> Gaps:
            num_steps, num_boundaries = connection.execute(covered).one()
            count, last = connection.execute(of(t.step, func.count(), highest(step))).one()
            is_whole = count == max(last, num_steps)
            return Gaps(
                () if is_whole else _missing(connection.scalars(of(t.step, step)), 1, num_steps),
                _missing(connection.scalars(of(t.boundary, t.boundary.c.after_stage)), 0, num_boundaries - 1),
            )

        return self.access.read(look)

    def digest(self, name: str, weights_sha256: str) -> str:
        """Hash what was trained: see `store.ledger.digest`."""
        return self._digest(name, weights_sha256, TRAINED)

    def digest_all(self, name: str, weights_sha256: str) -> str:
        """Hash what was trained and what was measured."""
        return self._digest(name, weights_sha256, TRAINED | MEASURED)

    def _digest(self, name: str, weights_sha256: str, sections: Mapping[str, Select[Any]]) -> str:
        run_id = self.run_id(name)
        return self.access.read(lambda connection: digest(connection, run_id, weights_sha256, sections))

    # --- its course ---

    def stages(self, name: str) -> list[q.StageRow]:
        """The stages that have started."""
        return self.ask(q.StageRow, self.rows_of(name, q.StageRow, t.stage).order_by(t.stage.c.stage))

    def steps(self, name: str, after: int = 0) -> list[q.StepRow]:
        """The steps later than `after`."""
        query = self.rows_of(name, q.StepRow, t.step).where(t.step.c.step > after)
        return self.ask(q.StepRow, query.order_by(t.step.c.step))

    def boundaries(self, name: str) -> list[q.BoundaryRow]:
        """The boundaries that have been measured."""
        query = self.rows_of(name, q.BoundaryRow, t.boundary, t.eval_config.c.settings)
        return self.ask(q.BoundaryRow, query.order_by(t.boundary.c.after_stage))

    def matrix(self, name: str, metric: str, split: str | None = None, *, by_category: bool = True) -> list[q.CellRow]:
        """A metric after stage i on environment j, for environments as wholes and, unless told otherwise, by category.

        Without a split: what reports show, which is neither what a scheduler looked at (`select`) nor what an
        intervention made of the boundary (`intervened`).
        """
        return self.matrices(name, [metric], split, by_category=by_category)[metric]

    def matrices(
        self, name: str, metrics: Sequence[str], split: str | None = None, *, by_category: bool = True
    ) -> dict[str, list[q.CellRow]]:
        """The same of several metrics, in one question."""
        row, known = t.eval_cell.c, {metric: known_metric(metric).name for metric in metrics}
        query = self.rows_of(name, q.CellRow, t.eval_cell).where(
            t.metric_def.c.name.in_(sorted({*known.values()})),
            row.split.in_(("anchor", "own")) if split is None else row.split == split,
            *([] if by_category else [row.category_id == 0]),
        )
        cells = self.ask(q.CellRow, query.order_by(row.after_stage, row.environment_id, row.category_id))
        found = q.by_key(cells, lambda cell: cell.metric)
        return {metric: found[of] for metric, of in known.items()}

    def end(self, name: str) -> int:
        """Number the last boundary that a run has come to: one that a ledger lost has left its checkpoint."""
        newest = (checkpoint.num_boundaries for checkpoint in self.checkpoints(name))
        return max(self.run(name).num_boundaries, *newest, 0) - 1

    def final_cells(self, name: str, metric: str, *, by_category: bool = True) -> list[q.CellRow]:
        """A metric of a run's last policy on the final pool: a look at an earlier one, before it went on, is not it."""
        end = self.end(name)
        return [cell for cell in self.matrix(name, metric, FINAL, by_category=by_category) if cell.after_stage == end]

    def cells(self, name: str) -> list[q.CellRow]:
        """Every metric after stage i on environment j that reports show, but times: all matrices of a run at once."""
        row = t.eval_cell.c
        query = self.rows_of(name, q.CellRow, t.eval_cell).where(
            t.metric_def.c.metric_group != "time", row.split.in_(("anchor", "own"))
        )
        order = (row.metric_id, row.after_stage, row.environment_id, row.category_id)
        return self.ask(q.CellRow, query.order_by(*order))

    def carry_over(self, name: str) -> Matrices:
        """Accuracy and entropy after stage i on environment j, and what was trained in between."""
        accuracy, entropy = self.matrices(name, ("pass_1", "entropy_token")).values()
        return matrices_of(accuracy, entropy, self.stages(name), self.journeys(name))

    def trainer(self, name: str, stage: int) -> q.RunRow:
        """The run that trained a stage of a run: itself, or the one of its past that it has the stage from."""
        run = self.run(name)
        if run.parent is None or stage > (run.parent_stage or 0):
            return run
        return self.trainer(run.parent, stage)

    def samplings(self, name: str, until: float = math.inf) -> list[Sampling]:
        """How a run, and its past, drew samples up to a stage: what the entropy of its training is of, in order."""
        run = self.run(name)
        begun = min(run.parent_stage or 0, until)  # what is before was its parent's
        ways = self.samplings(run.parent, begun) if run.parent is not None and begun else []
        own = sampling_of(self.spec(name))
        return [*ways, own] if until > begun and own not in ways[-1:] else ways

    def is_plainly_sampled(self, name: str) -> bool:
        """Whether all samples of a run, and of its past, came from the policy itself."""
        return is_plain(self.samplings(name))

    def journeys(self, name: str) -> dict[int, Journey]:
        """Entropy along the training of every ended stage, of the stage's environment: added up by the database.

        Nothing where some of it was sampled in another way than boundaries measure: it is no share of what they find.
        """
        if not self.is_plainly_sampled(name):
            return {}
        row, stage = t.step_metric.c, t.stage.c

        def before(column: ColumnElement[Any]) -> ColumnElement[Any]:
            return func.lag(column).over(partition_by=stage.stage, order_by=row.step)

        width, height = row.step - before(row.step), (row.value + before(row.value)) / 2
        pieces = (
            select(stage.stage, (width * height).label("area"), width.label("width"))
            .select_from(t.trained(t.step_metric.join(t.metric_def)))
            .where(row.run_id == self.run_id(name), t.metric_def.c.name == "entropy_token", row.value.is_not(None))
            .subquery()
        )
        query = select(pieces.c.stage, func.sum(pieces.c.area), func.sum(pieces.c.width)).group_by(pieces.c.stage)
        return {int(i): Journey(float(area), int(steps)) for i, area, steps in self.fetch(query) if steps}

    def measured(self, name: str) -> set[str]:
        """Name the environments that a boundary has measured, whichever."""
        row = t.eval_cell.c
        query = select(t.environment.c.name).select_from(t.with_names(t.eval_cell))
        query = query.where(row.run_id == self.run_id(name))
        return {environment for (environment,) in self.fetch(query.distinct())}

    def holdouts(self, name: str) -> list[HoldoutRecord]:
        """The tasks that the categories were evaluated on; more than one set if they were changed."""
        cells = select(t.eval_cell.c.holdout_id).where(t.eval_cell.c.run_id == self.run_id(name))
        row, columns = t.holdout.c, columns_of(HoldoutRecord, t.holdout)
        query = select(*columns).select_from(t.with_names(t.holdout)).order_by(*columns)
        return self.ask(HoldoutRecord, query.where(row.holdout_id.in_(cells), row.holdout_id != 0).distinct())

    def task_sets(self, name: str, is_final: bool = False) -> list[q.TaskSetRow]:
        """The tasks that accuracy was measured on, and from which boundary to which; of the final look, or without."""
        row, of, sha256 = t.eval_cell.c, (t.environment.c.name, t.category.c.name), t.holdout.c.sha256
        query = select(*of, t.holdout.c.purpose, sha256, func.min(row.after_stage), func.max(row.after_stage))
        query = query.select_from(t.with_names(t.eval_cell)).where(
            row.run_id == self.run_id(name),
            t.metric_def.c.name == known_metric("pass_1").name,
            row.holdout_id != 0,
            row.split == FINAL if is_final else row.split != FINAL,
        )
        return [q.TaskSetRow(*found) for found in self.fetch(query.group_by(*of, t.holdout.c.purpose, sha256))]

    def has_final_pool(self, name: str) -> bool:
        """Whether a run was evaluated on more than closed environments, whose only held-out tasks are their own."""
        return {row.purpose for row in self.task_sets(name)} != {"own"}

    def samples(
        self,
        name: str,
        environment: str | None = None,
        failed: bool = False,
        stage: int | None = None,
        limit: int = 20,
    ) -> list[q.SampleRow]:
        """Kept completions, the newest step first. `failed`: only those not correct; `stage`: from its training."""
        row = t.sample.c
        query = self.rows_of(name, q.SampleRow, t.sample)
        if environment is not None:
            query = query.where(t.environment.c.name == environment)
        if failed:
            query = query.where(row.correct.is_not(True))
        if stage is not None:
            query = query.join(t.step, same_step(t.sample))
            query = query.where(t.step.c.stage == stage, row.after_stage.is_(None))
        return self.ask(q.SampleRow, query.order_by(row.step.desc(), row.sample_id).limit(limit))

    def boundary_samples(self, name: str, after_stages: Sequence[int], num_slots: int) -> list[q.SampleRow]:
        """Completions kept at boundaries, of the first `num_slots` tasks of every category."""
        row = t.sample.c
        query = self.rows_of(name, q.SampleRow, t.sample)
        query = query.where(row.after_stage.in_(after_stages), row.slot < num_slots)
        order = (row.environment_id, row.category_id, row.slot, row.sample, row.after_stage)
        return self.ask(q.SampleRow, query.order_by(*order))

    def events(self, name: str, skip: int = 0) -> list[q.EventRow]:
        """Decisions and incidents, in order, without the first `skip`."""
        query = self.rows_of(name, q.EventRow, t.event)
        return self.ask(q.EventRow, query.order_by(t.event.c.step, t.event.c.event_id).offset(skip))


def matrices_of(
    accuracy: Iterable[q.CellRow],
    entropy: Iterable[q.CellRow],
    stages: Sequence[q.StageRow],
    journeys: Mapping[int, Journey] | None = None,
) -> Matrices:
    """Arrange cells of `pass_1` and `entropy_token`; a stage that no boundary has measured yet does not count.

    Neither does an environment without a stage that has no value at any boundary, as one that is only held out.
    """
    wholes = [cell for cell in accuracy if cell.category is None and cell.environment is not None]
    last = max((cell.after_stage for cell in wholes), default=0)
    measured = [stage for stage in stages if stage.stage <= last]
    is_whole = [stage.stage for stage in measured] == list(range(1, len(measured) + 1))
    is_flat = is_whole and bool(measured) and not any(stage.environment for stage in measured)
    with_value = dict.fromkeys(cell.environment for cell in wholes if cell.value is not None and cell.environment)
    trained = {stage.environment for stage in measured}
    entropies = [cell for cell in entropy if cell.category is None and cell.environment is not None]
    with_entropy = {cell.environment for cell in entropies if cell.value is not None}
    wholes = [cell for cell in wholes if cell.environment in with_value or cell.environment in trained]
    entropies = [cell for cell in entropies if cell.environment in with_entropy | trained]
    return Matrices(
        {(cell.after_stage, cell.environment or ""): cell.value for cell in wholes},
        {(cell.after_stage, cell.environment or ""): cell.value for cell in entropies},
        {(cell.after_stage, cell.environment or ""): cell.stderr for cell in wholes},
        # where a lost ledger took stages along, as in flat mode: nobody knows what was trained when
        [stage.environment if is_whole else None for stage in measured],
        list(with_value) if is_flat else (),
        journeys or {},
    )


def _missing(found: Iterable[int], first: int, last: int) -> tuple[Span, ...]:
    """List the stretches of numbers that are not there, up to `last` or the last that is."""
    there = sorted(found)
    ends = [first - 1, *there, max([last, *there[-1:]]) + 1]
    return tuple((a + 1, b - 1) for a, b in pairwise(ends) if b > a + 1)
