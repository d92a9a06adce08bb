"""The ledger: what every run did, written in short transactions, one a step.

It is the source of truth for resume and for reports. Several processes may write, each its own run. Reading is in
`store.ledger.reading`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Literal

from sqlalchemy import Connection, Table, delete, insert, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from store.errors import LedgerError
from store.ledger import kin, names, rows, schema, tables
from store.ledger.copying import copy_history
from store.ledger.engine import make_engine, writing
from store.ledger.names import RunHandle
from store.ledger.reading import Reading
from store.ledger.revising import end_stage, forget_stage, rewind
from store.records import (
    BoundaryRecord,
    CheckpointRecord,
    EnvironmentRecord,
    EventRecord,
    HoldoutRecord,
    RunRecord,
    StageRecord,
    StepRecord,
    StudyRecord,
)

Status = Literal["running", "stopped", "finished", "failed"]


class Ledger:
    """A ledger open for writing; `reading` answers questions. Every failure is a `LedgerError`."""

    def __init__(self, url: str) -> None:
        self.engine = make_engine(url)
        self.reading = Reading(self.engine)
        self._writer = writing(self.engine)

    @classmethod
    def open(cls, url: str, create: bool = True) -> Ledger:
        """Open a ledger; a fresh database gets the schema if `create`. One of another schema is refused."""
        ledger = cls(url)
        with ledger._explaining("Opening the ledger"):
            schema.prepare(ledger.engine, create)
        return ledger

    @classmethod
    def upgrade(cls, url: str) -> None:
        """Bring an older ledger to our schema."""
        with cls(url) as ledger, ledger._explaining("Upgrading the ledger"):
            schema.upgrade(ledger.engine)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start_study(self, record: StudyRecord) -> None:
        """Enter a study; one that is there gets this plan, as seeds and settings may be added."""
        study = tables.study
        with self._writing(f"The start of study {record.name!r}") as connection:
            names.get_or_create(
                connection,
                study,
                {"name": record.name},
                {"plan": dict(record.plan), "created_at": rows.now()},
            )
            change = update(study).where(study.c.name == record.name).values(plan=dict(record.plan))
            connection.execute(change)

    # --- a run ---------------------------------------------------------------------------------------

    def start_run(self, record: RunRecord) -> RunHandle:
        """Enter a new run. Its name must be free."""
        with self._writing(f"The start of run {record.name!r}") as connection:
            return _enter(connection, record)

    def fork_run(self, record: RunRecord, checkpoint: CheckpointRecord) -> RunHandle:
        """Enter a run that goes on from another's checkpoint: with the other's history up to there."""
        assert record.lineage is not None
        parent = self.reading.run_id(record.lineage.parent)
        with self._writing(f"The fork {record.name!r} of run {record.lineage.parent!r}") as connection:
            run = _enter(connection, record)
            copy_history(connection, parent, run.run_id)
            rewind(connection, run.run_id, checkpoint.step, checkpoint.num_boundaries)
            connection.execute(insert(tables.checkpoint).values(**_checkpoint_row(run, checkpoint)))
        return run

    def open_run(self, name: str, environments: Iterable[EnvironmentRecord] = ()) -> RunHandle:
        """Take up a run that is there, to go on with it. Holdouts are recorded again, like at its start."""
        run_id = self.reading.run_id(name)
        with self._writing(f"Taking up run {name!r}") as connection:
            keys = names.declare_metrics(connection) | names.declare_environments(connection, environments)
        return RunHandle(run_id, name, keys)

    def declare(self, run: RunHandle, environments: Sequence[EnvironmentRecord]) -> None:
        """Tell of environments, or of categories that have appeared since the start."""
        with self._writing(f"An environment of run {run.name!r}") as connection:
            keys = names.declare_environments(connection, environments)
        run.learn(keys)

    def record_holdout(self, run: RunHandle, record: HoldoutRecord) -> None:
        """Tell which tasks a category is evaluated on, before the boundary that does."""
        with self._writing(f"A holdout of run {run.name!r}") as connection:
            keys = names.declare_holdout(connection, run, record)
        run.learn(keys)

    def set_status(self, run: RunHandle, status: Status) -> None:
        """Say how a run stands."""
        ended = None if status == "running" else rows.now()
        change = (
            update(tables.run).where(tables.run.c.run_id == run.run_id).values(status=status, ended_at=ended)
        )
        with self._writing(f"The status of run {run.name!r}") as connection:
            connection.execute(change)

    def set_spec(self, run: RunHandle, spec: Mapping[str, Any]) -> None:
        """Say what a run goes on with: more stages, other resources."""
        change = update(tables.run).where(tables.run.c.run_id == run.run_id).values(spec=dict(spec))
        with self._writing(f"The spec of run {run.name!r}") as connection:
            connection.execute(change)

    # --- its course ----------------------------------------------------------------------------------

    def start_stage(self, run: RunHandle, record: StageRecord) -> None:
        """Enter a stage. Entering it again replaces it."""
        with self._writing(f"Stage {record.index} of run {run.name!r}") as connection:
            forget_stage(connection, run.run_id, record.index)
            _insert(connection, rows.stage_rows(run, record))

    def record_step(self, run: RunHandle, record: StepRecord) -> None:
        """Enter everything that a step left behind."""
        what = f"Step {record.step} of run {run.name!r}"
        if new := run.new_metrics(metric.name for metric in record.metrics):
            with self._writing(what) as connection:
                keys = [names.declare_metric(connection, name) for name in new]
            for key in keys:
                run.learn(key)
        with self._writing(what) as connection:
            _insert(connection, rows.step_rows(run, record))

    def record_boundary(self, run: RunHandle, record: BoundaryRecord) -> None:
        """Enter what was measured at a boundary, and end the stage before it."""
        with self._writing(
            f"The boundary after stage {record.after_stage} of run {run.name!r}"
        ) as connection:
            _insert(connection, rows.boundary_rows(run, record, _eval_config(connection, record)))
            end = {"end_step": record.step, "stop_reason": record.stop_reason, "ended_at": rows.now()}
            end_stage(connection, run.run_id, record.after_stage, end, rows.finite(record.signal))

    def record_joined(self, run: RunHandle, record: BoundaryRecord) -> None:
        """Enter what was measured of environments that joined a run at a boundary it already has."""
        with self._writing(f"What joined run {run.name!r}") as connection:
            config = _eval_config(connection, record)
            for table, new in rows.boundary_rows(run, record, config):
                if new and table is not tables.boundary:
                    connection.execute(insert(table), new)

    def record_event(self, run: RunHandle, step: int, record: EventRecord) -> None:
        """Enter an event that comes with no step, stage or boundary."""
        with self._writing(f"An event of run {run.name!r}") as connection:
            connection.execute(insert(tables.event).values(**rows.event_row(run, step, record)))

    # --- checkpoints ---------------------------------------------------------------------------------

    def record_checkpoint(self, run: RunHandle, record: CheckpointRecord) -> None:
        """Enter a checkpoint that is durable; one of the same folder is replaced."""
        with self._writing(f"A checkpoint of run {run.name!r}") as connection:
            connection.execute(delete(tables.checkpoint).where(*_is(run, record)))
            connection.execute(insert(tables.checkpoint).values(**_checkpoint_row(run, record)))

    def checkpoints(self, run: RunHandle) -> list[CheckpointRecord]:
        """Return the checkpoints that still exist, newest first."""
        return self.reading.checkpoints(run.name)

    def forget_checkpoint(self, run: RunHandle, record: CheckpointRecord) -> None:
        """Say that a checkpoint's folder has been deleted; its row stays."""
        with self._writing(f"A checkpoint of run {run.name!r}") as connection:
            connection.execute(
                update(tables.checkpoint).where(*_is(run, record)).values(deleted_at=rows.now())
            )

    def rewind(self, run: RunHandle, step: int, num_boundaries: int) -> None:
        """Go back to a checkpoint: delete everything later, at once."""
        with self._writing(f"Going back in run {run.name!r}") as connection:
            rewind(connection, run.run_id, step, num_boundaries)

    # --- plumbing ------------------------------------------------------------------------------------

    @contextmanager
    def _writing(self, what: str) -> Iterator[Connection]:
        with self._explaining(what), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def _explaining(self, what: str) -> Iterator[None]:
        try:
            yield
        except IntegrityError as clash:
            raise LedgerError(
                f"{what} clashes with what the ledger {self.engine.url!r} holds: {clash.orig}. Either it is there "
                "already, or it names something that is not, or a value is missing."
            ) from clash
        except DBAPIError as failed:
            raise LedgerError(f"{what} failed in the ledger {self.engine.url!r}: {failed.orig}.") from failed


def _enter(connection: Connection, record: RunRecord) -> RunHandle:
    inserted = connection.execute(insert(tables.run).values(**rows.run_row(record)))
    (run_id,) = map(int, inserted.inserted_primary_key or (0,))
    kin.enter(connection, run_id, record)
    keys = names.declare_metrics(connection) | names.declare_environments(connection, record.environments)
    return RunHandle(run_id, record.name, keys)


def _eval_config(connection: Connection, record: BoundaryRecord) -> int:
    settings = dict(record.eval_config)
    key = {"sha256": names.fingerprint(settings)}
    return names.get_or_create(connection, tables.eval_config, key, {"settings": settings})


def _checkpoint_row(run: RunHandle, record: CheckpointRecord) -> rows.Row:
    return {"run_id": run.run_id, "created_at": rows.now(), **vars(record)}


def _insert(connection: Connection, tables_and_rows: Iterable[tuple[Table, Sequence[rows.Row]]]) -> None:
    for table, new in tables_and_rows:
        if new:
            connection.execute(insert(table), new)


def _is(run: RunHandle, record: CheckpointRecord) -> tuple[Any, ...]:
    checkpoint = tables.checkpoint.c
    return checkpoint.run_id == run.run_id, checkpoint.folder == record.folder
