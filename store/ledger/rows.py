"""From records to rows: pure functions, no database."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

from sqlalchemy import Double, Table

from store.ledger import tables as t
from store.ledger.names import RunHandle, fingerprint
from store.records import BoundaryRecord, EventRecord, GroupRecord, StageRecord, StepRecord

Row = dict[str, Any]
RowsOfTables = Iterator[tuple[Table, Sequence[Row]]]
MAX_ARMS = 200  # of the bandits that a record tells of; of more none is kept


def now() -> str:
    """Return the time, ISO-8601 in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def finite(value: float | None) -> float | None:
    """Return the number, or None for what no database and no chart takes well."""
    return None if value is None or not math.isfinite(value) else float(value)


def stage_rows(run: RunHandle, record: StageRecord) -> RowsOfTables:
    """Make the rows of a stage's start, by table."""
    step, stage = record.start_step, record.index
    yield t.stage, [row_of(t.stage, record, run, stage=stage, started_at=now())]
    yield t.pick, [row_of(t.pick, pick, run, step=step, stage=stage) for pick in [record.pick] if pick]
    yield t.event, [event_row(run, step, event, stage=stage) for event in record.events]


def step_rows(run: RunHandle, record: StepRecord) -> RowsOfTables:
    """Make the rows of a step, by table."""
    step, stage = record.step, record.stage
    yield t.step, [row_of(t.step, record, run, created_at=now())]
    yield t.pick, [row_of(t.pick, pick, run, step=step, stage=stage) for pick in record.picks]
    yield t.task_group, [_group_row(run, step, group) for group in record.groups]
    metrics = [(one, run.metric(one.name)) for one in record.metrics]
    yield t.step_metric, [row_of(t.step_metric, one, run, step=step, metric_id=key) for one, key in metrics]
    yield t.sample, [row_of(t.sample, sample, run, step=step, after_stage=None) for sample in record.samples]
    yield t.event, [event_row(run, step, event) for event in record.events]
    if len(record.arms) <= MAX_ARMS:
        yield t.arm_state, [row_of(t.arm_state, arm, run, step=step) for arm in record.arms]


def boundary_rows(run: RunHandle, record: BoundaryRecord, eval_config_id: int) -> RowsOfTables:
    """Make the rows of a boundary, by table."""
    step, after = record.step, record.after_stage
    at = {"after_stage": after, "eval_config_id": eval_config_id}
    yield t.boundary, [row_of(t.boundary, record, run, **at, created_at=now())]
    cells = []
    for cell in record.cells:
        holdout_id = run.holdout(cell.environment, cell.category, cell.split)
        keys = {"metric_id": run.metric(cell.metric), "holdout_id": holdout_id}
        cells.append(row_of(t.eval_cell, cell, run, **at, **keys))
    yield t.eval_cell, cells
    items, places = [], Counter[tuple[str, str]]()  # how many items of a category there are so far
    for item in record.items:
        of = (item.environment, item.category)
        items.append(row_of(t.eval_item, item, run, after_stage=after, item=places[of]))
        places[of] += 1
    yield t.eval_item, items
    yield t.sample, [row_of(t.sample, one, run, step=step, after_stage=after) for one in record.samples]
    yield t.event, [event_row(run, step, event, after_stage=after) for event in record.events]
    yield t.measurement, [row_of(t.measurement, one, run, after_stage=after) for one in record.measurements]
    metric_ids = [(one, run.metric(one.metric)) for one in record.network]
    yield (
        t.network_cell,
        [row_of(t.network_cell, one, run, after_stage=after, metric_id=key) for one, key in metric_ids],
    )
    for probe in record.probes:
        key = {"after_stage": after, "kind": probe.kind, "task": probe.task, "seed": probe.seed}
        yield t.probe, [row_of(t.probe, probe, run, **key, sha256=fingerprint(dict(probe.protocol)))]
        points = [(one, run.metric(one.metric)) for one in probe.points]
        yield t.probe_point, [row_of(t.probe_point, one, run, **key, metric_id=metric) for one, metric in points]
    yield (
        t.holdout_query,
        [
            row_of(
                t.holdout_query,
                one,
                run,
                after_stage=after,
                holdout_id=run.holdout(one.environment, one.category, one.split),
            )
            for one in record.queries
        ],
    )


def event_row(
    run: RunHandle, step: int, record: EventRecord, stage: int | None = None, after_stage: int | None = None
) -> Row:
    """Make an event's row."""
    at = {"step": step, "stage": stage, "after_stage": after_stage}
    return row_of(t.event, record, run, **at, created_at=now())


def _group_row(run: RunHandle, step: int, record: GroupRecord) -> Row:
    scores = [None if value is None else float(value) for value in record.values]
    scored = [value for value in scores if value is not None]
    sums = {"num_samples": len(scores), "num_scored": len(scored), "value_sum": math.fsum(scored)}
    num_correct = sum(map(bool, record.correct))
    return row_of(t.task_group, record, run, step=step, scores=scores, num_correct=num_correct, **sums)


def row_of(table: Table, record: Any, run: RunHandle | None = None, **given: Any) -> Row:
    """Take a table's columns from a record, keys in the place of names; `given` is what the record does not have.

    What is not finite is NULL where that may be. Columns that are filled in later are left out.
    """
    row = given
    for name, may_be_null in _columns(table):
        if name in row:
            continue
        if run is not None and name == "run_id":
            row[name] = run.run_id
        elif run is not None and name == "environment_id":
            row[name] = run.environment(record.environment)
        elif run is not None and name == "category_id":
            row[name] = run.category(record.environment, record.category)
        else:
            value = getattr(record, name)
            row[name] = finite(value) if may_be_null else value
    return row


@cache
def _columns(table: Table) -> list[tuple[str, bool]]:
    """List the columns that are written with a row, and whether each is a number that may be NULL."""
    return [
        (column.name, bool(column.nullable) and isinstance(column.type, Double))
        for column in table.c
        if not column.info.get("later") and not (column.primary_key and column.autoincrement == "auto")
    ]
