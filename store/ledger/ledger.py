"""The ledger: what every run did, written in short transactions, one a step.

It is the source of truth for resume and for reports. Several processes may write, each its own run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import Connection, Insert, Table, delete, insert, select, update

from store.ledger import names, rows, schema, tables
from store.ledger.access import Access, Evidence, Patience, row_of_run
from store.ledger.engine import make_engine
from store.ledger.history import copy_history, end_stage, forget_stage, remove, rewind
from store.ledger.names import RunHandle
from store.ledger.queries import Reading
from store.records import (
    FINAL,
    INTERVENTION,
    BoundaryRecord,
    CheckpointRecord,
    EnvironmentRecord,
    EventRecord,
    HoldoutRecord,
    InterventionRecord,
    RunRecord,
    StageRecord,
    StepRecord,
    StudyRecord,
)

Status = Literal["running", "stopped", "finished", "failed"]


class Ledger:
    """A ledger open for writing; `reading` answers questions. Every failure is a `LedgerError`."""

    def __init__(self, url: str, patience: Patience | None = None) -> None:
        self.engine = make_engine(url)
        self._access = Access(self.engine, patience)
        self.reading = Reading(self.engine, self.patience)

    @property
    def patience(self) -> Patience:
        """How long the database is waited for, and what was waited for."""
        return self._access.patience

    @classmethod
    def open(cls, url: str, create: bool = True, patience: Patience | None = None) -> Ledger:
        """Open a ledger; a fresh database gets the schema if `create`. One of another schema is refused.

        Patience begins afterwards: a database that cannot be opened is rather a mistake than away.
        """
        ledger = cls(url, patience)
        with ledger._access.explaining("Opening the ledger", is_opening=True):
            schema.prepare(ledger.engine, create)
        return ledger

    @classmethod
    def upgrade(cls, url: str) -> None:
        """Bring an older ledger to our schema."""
        with cls(url) as ledger, ledger._access.explaining("Upgrading the ledger"):
            schema.upgrade(ledger.engine)

    @classmethod
    def find(cls, url: str) -> Ledger | None:
        """Open a ledger that is there; None: there is none."""
        with cls(url) as ledger, ledger._access.explaining("Opening the ledger", is_opening=True):
            if schema.revision(ledger.engine) is None:
                return None
        return cls.open(url, create=False)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def start_study(self, record: StudyRecord) -> None:
        """Enter a study; one that is there gets this plan, as seeds and settings may be added."""
        study = tables.study
        first = {"plan": record.plan, "created_at": rows.now()}
        change = update(study).where(study.c.name == record.name).values(plan=record.plan)

        def enter(connection: Connection) -> None:
            names.get_or_create(connection, study, {"name": record.name}, first)
            connection.execute(change)

        self._access.write(f"The start of study {record.name!r}", enter)

    def remove_study(self, name: str) -> None:
        """Delete a study that has no runs any more."""
        gone = delete(tables.study).where(tables.study.c.name == name)
        self._access.write(f"The removal of study {name!r}", lambda c: c.execute(gone))

    # --- a run ---------------------------------------------------------------------------------------

    def start_run(self, record: RunRecord) -> RunHandle:
        """Enter a new run. Its name must be free."""
        what = f"The start of run {record.name!r}"
        run = self._access.write(what, lambda connection: _enter(connection, record), _run_of(record))
        return run or self.open_run(record.name, record.environments)

    def fork_run(
        self, record: RunRecord, checkpoint: CheckpointRecord, events: Sequence[EventRecord] = ()
    ) -> RunHandle:
        """Enter a run that goes on from another's checkpoint: with the other's history up to there, then `events`."""
        assert record.lineage is not None
        parent = self.reading.run_id(record.lineage.parent)

        def enter(connection: Connection) -> RunHandle:
            run = _enter(connection, record)
            copy_history(connection, parent, run.run_id)
            rewind(connection, run.run_id, checkpoint.step, checkpoint.num_boundaries, is_before_intervening=True)
            connection.execute(_checkpoint(run, checkpoint))
            _insert(connection, [(tables.event, [rows.event_row(run, checkpoint.step, one) for one in events])])
            return run

        what = f"The fork {record.name!r} of run {record.lineage.parent!r}"
        run = self._access.write(what, enter, _run_of(record))
        return run or self.open_run(record.name, record.environments)

    def open_run(self, name: str, environments: Iterable[EnvironmentRecord] = ()) -> RunHandle:
        """Take up a run that is there, to go on with it. Holdouts are recorded again, like at its start."""
        run_id, records = self.reading.run_id(name), list(environments)

        def declare(connection: Connection) -> names.Keys:
            return names.declare_metrics(connection) | names.declare_environments(connection, records)

        keys = self._access.write(f"Taking up run {name!r}", declare)
        return RunHandle(run_id, name, keys or {})

    def declare(self, run: RunHandle, environments: Sequence[EnvironmentRecord]) -> None:
        """Enter environments, or categories that have appeared since the start."""
        what = f"An environment of run {run.name!r}"
        run.learn(self._access.write(what, lambda c: names.declare_environments(c, environments)) or {})

    def record_holdouts(self, run: RunHandle, records: Sequence[HoldoutRecord]) -> None:
        """Enter the tasks that categories are evaluated on, before the boundary that uses them."""
        what = f"The holdouts of run {run.name!r}"
        run.learn(self._access.write(what, lambda c: names.declare_holdouts(c, run, records)) or {})

    def remove_run(self, uid: str) -> None:
        """Delete a run and all that it left here, at once. Refused as long as another run refers to it."""
        run = select(tables.run.c.run_id).where(tables.run.c.uid == uid)

        def enter(connection: Connection) -> None:
            if (run_id := connection.scalar(run)) is not None:
                remove(connection, run_id)

        self._access.write(f"The removal of run {uid}", enter)

    def set_status(self, run: RunHandle, status: Status) -> None:
        """Set a run's status; one that is not running has ended."""
        ended = None if status == "running" else rows.now()
        change = update(tables.run).where(tables.run.c.run_id == run.run_id)
        change = change.values(status=status, ended_at=ended)
        self._access.write(f"The status of run {run.name!r}", lambda c: c.execute(change))

    def set_spec(self, run: RunHandle, spec: Mapping[str, Any]) -> None:
        """Replace the spec that a run goes on with: more stages, other resources."""
        change = update(tables.run).where(tables.run.c.run_id == run.run_id).values(spec=spec)
        self._access.write(f"The spec of run {run.name!r}", lambda c: c.execute(change))

    # --- its course ----------------------------------------------------------------------------------

    def start_stage(self, run: RunHandle, record: StageRecord) -> None:
        """Enter a stage. Entering it again replaces it."""

        def enter(connection: Connection) -> None:
            forget_stage(connection, run.run_id, record.index)
            _insert(connection, rows.stage_rows(run, record))

        self._access.write(f"Stage {record.index} of run {run.name!r}", enter)

    def record_step(self, run: RunHandle, record: StepRecord) -> None:
        """Enter everything that a step left behind."""
        what = f"Step {record.step} of run {run.name!r}"
        self._declare_metrics(what, run, (metric.name for metric in record.metrics))
        is_there = row_of_run(tables.step, run.run_id, step=record.step)
        self._access.write(what, lambda c: _insert(c, rows.step_rows(run, record)), is_there)

    def record_boundary(self, run: RunHandle, record: BoundaryRecord) -> None:
        """Enter what was measured at a boundary, and end the stage before it."""

        def enter(connection: Connection) -> None:
            _insert(connection, rows.boundary_rows(run, record, _eval_config(connection, record)))
            end = {"end_step": record.step, "stop_reason": record.stop_reason, "ended_at": rows.now()}
            end_stage(connection, run.run_id, record.after_stage, end, rows.finite(record.signal))

        what = f"The boundary after stage {record.after_stage} of run {run.name!r}"
        self._declare_metrics(what, run, _metrics_of(record))
        self._access.write(what, enter, row_of_run(tables.boundary, run.run_id, after_stage=record.after_stage))

    def record_joined(self, run: RunHandle, record: BoundaryRecord) -> None:
        """Enter what was measured of environments that joined a run at a boundary it already has.

        Its means change with it, so from here on it is another boundary to whoever was told of it.
        """
        own = tables.boundary.c
        told = update(tables.boundary).where(own.run_id == run.run_id, own.after_stage == record.after_stage)

        def enter(connection: Connection) -> None:
            connection.execute(told.values(created_at=rows.now()))
            made = rows.boundary_rows(run, record, _eval_config(connection, record))
            once = (tables.boundary, tables.measurement)  # as the boundary has them already
            _insert(connection, (pair for pair in made if pair[0] not in once))
            cost = tables.measurement
            for one in record.measurements:
                place = (cost.c.run_id == run.run_id, cost.c.after_stage == record.after_stage, cost.c.name == one.name)
                more = {"passes": cost.c.passes + one.passes, "seconds": cost.c.seconds + one.seconds}
                if not connection.execute(update(cost).where(*place).values(more)).rowcount:  # it did not look there
                    row = {"run_id": run.run_id, "after_stage": record.after_stage, **vars(one)}
                    connection.execute(insert(cost).values(row))

        what = f"What joined run {run.name!r}"
        self._declare_metrics(what, run, _metrics_of(record))
        cell = record.cells[0]
        first = {
            "after_stage": record.after_stage,
            "environment_id": run.environment(cell.environment),
            "category_id": run.category(cell.environment, cell.category),
            "metric_id": run.metric(cell.metric),
            "split": cell.split,
        }
        is_there = row_of_run(tables.eval_cell, run.run_id, **first)
        self._access.write(what, enter, is_there)

    def record_intervention(self, run: RunHandle, done: Sequence[InterventionRecord], record: BoundaryRecord) -> None:
        """Enter what was done to the policy after a boundary, why, and what was measured once more."""

        def enter(connection: Connection) -> None:
            after, own = record.after_stage, tables.intervention.c
            replaced = delete(tables.intervention).where(own.run_id == run.run_id, own.after_stage == after)
            connection.execute(replaced)
            made = [rows.row_of(tables.intervention, one, run, created_at=rows.now()) for one in done]
            _insert(connection, [(tables.intervention, made)])
            config = _eval_config(connection, record) if record.cells else 0
            others = (pair for pair in rows.boundary_rows(run, record, config) if pair[0] is not tables.boundary)
            _insert(connection, others)

        what = f"The interventions after stage {record.after_stage} of run {run.name!r}"
        self._declare_metrics(what, run, _metrics_of(record))
        is_there = row_of_run(tables.event, run.run_id, kind=INTERVENTION, after_stage=record.after_stage)
        self._access.write(what, enter, is_there)

    def record_final(self, run: RunHandle, record: BoundaryRecord) -> None:
        """Enter what a finished run's last policy does on the final pool, in place of what was found there before."""
        cells = tables.eval_cell

        def enter(connection: Connection) -> None:
            made = rows.boundary_rows(run, record, _eval_config(connection, record))
            connection.execute(delete(cells).where(cells.c.run_id == run.run_id, cells.c.split == FINAL))
            kept = (cells, tables.event, tables.holdout_query)
            _insert(connection, (pair for pair in made if pair[0] in kept))

        what = f"The final look at run {run.name!r}"
        self._declare_metrics(what, run, _metrics_of(record))
        self._access.write(what, enter)

    def _declare_metrics(self, what: str, run: RunHandle, used: Iterable[str]) -> None:
        """Enter the definitions of metrics of a family that are used for the first time."""
        if new := run.new_metrics(dict.fromkeys(used)):
            declared = self._access.write(what, lambda c: [names.declare_metric(c, name) for name in new])
            for key in declared or ():
                run.learn(key)

    def record_event(self, run: RunHandle, step: int, record: EventRecord) -> None:
        """Enter an event that comes with no step, stage or boundary."""
        row = rows.event_row(run, step, record)
        same = {name: row[name] for name in ("step", "kind", "text", "created_at")}
        self._access.write(
            f"An event of run {run.name!r}",
            lambda connection: connection.execute(insert(tables.event).values(**row)),
            row_of_run(tables.event, run.run_id, **same),
        )

    # --- checkpoints ---------------------------------------------------------------------------------

    def record_checkpoint(self, run: RunHandle, record: CheckpointRecord) -> None:
        """Enter a checkpoint that is durable; one of the same folder is replaced."""

        def enter(connection: Connection) -> None:
            connection.execute(delete(tables.checkpoint).where(*_is(run, record)))
            connection.execute(_checkpoint(run, record))

        self._access.write(f"A checkpoint of run {run.name!r}", enter)

    def checkpoints(self, run: RunHandle) -> list[CheckpointRecord]:
        """Return the checkpoints that still exist, newest first."""
        return self.reading.checkpoints(run.name)

    def forget_checkpoint(self, run: RunHandle, record: CheckpointRecord) -> None:
        """Note that a checkpoint's folder has been deleted; its row stays."""
        change = update(tables.checkpoint).where(*_is(run, record)).values(deleted_at=rows.now())
        self._access.write(f"A checkpoint of run {run.name!r}", lambda c: c.execute(change))

    def rewind(self, run: RunHandle, step: int, num_boundaries: int, *, is_before_intervening: bool = False) -> None:
        """Go back to a checkpoint: delete everything later, at once; also, if asked, what was done to its policy."""
        what = f"Going back in run {run.name!r}"
        self._access.write(what, lambda c: rewind(c, run.run_id, step, num_boundaries, is_before_intervening))


def _enter(connection: Connection, record: RunRecord) -> RunHandle:
    """Enter a run, what it was forked from, its place in its study, and whose twin it is."""
    t = tables
    row = rows.row_of(t.run, record, status="running", created_at=rows.now())
    (run_id,) = map(int, connection.execute(insert(t.run).values(row)).inserted_primary_key or (0,))

    def run(name: str) -> Any:
        return select(t.run.c.run_id).where(t.run.c.name == name).scalar_subquery()

    if (fork := record.lineage) is not None:
        values = {"run_id": run_id, "parent_id": run(fork.parent), "parent_stage": fork.stage}
        connection.execute(insert(t.lineage).values(values))
    if (member := record.member) is not None:
        study = select(t.study.c.study_id).where(t.study.c.name == member.study).scalar_subquery()
        values = {"run_id": run_id, "study_id": study, "setting": member.setting, "changes": member.changes}
        connection.execute(insert(t.member).values(values))
    if record.baseline_of is not None:
        connection.execute(insert(t.twin).values(run_id=run_id, of_id=run(record.baseline_of)))
    keys = names.declare_metrics(connection) | names.declare_environments(connection, record.environments)
    return RunHandle(run_id, record.name, keys)


def _run_of(record: RunRecord) -> Evidence:
    query = select(tables.run.c.run_id).where(tables.run.c.uid == record.uid)
    return lambda connection: connection.scalar(query) is not None


def _metrics_of(record: BoundaryRecord) -> list[str]:
    points = (point.metric for probe in record.probes for point in probe.points)
    return [*(cell.metric for cell in record.cells), *(one.metric for one in record.network), *points]


def _eval_config(connection: Connection, record: BoundaryRecord) -> int:
    settings = dict(record.eval_config)
    key = {"sha256": names.fingerprint(settings)}
    return names.get_or_create(connection, tables.eval_config, key, {"settings": settings})


def _checkpoint(run: RunHandle, record: CheckpointRecord) -> Insert:
    row = rows.row_of(tables.checkpoint, record, run, created_at=rows.now())
    return insert(tables.checkpoint).values(row)


def _insert(connection: Connection, tables_and_rows: Iterable[tuple[Table, Sequence[rows.Row]]]) -> None:
    for table, new in tables_and_rows:
        if new:
            connection.execute(insert(table), new)


def _is(run: RunHandle, record: CheckpointRecord) -> tuple[Any, ...]:
    checkpoint = tables.checkpoint.c
    return checkpoint.run_id == run.run_id, checkpoint.folder == record.folder
