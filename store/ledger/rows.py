"""From records to rows: pure functions, no database."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Table

from store.ledger import tables
from store.ledger.names import RunHandle
from store.records import (
    BoundaryRecord,
    CellRecord,
    EventRecord,
    GroupRecord,
    ItemRecord,
    MetricRecord,
    PickRecord,
    RunRecord,
    SampleRecord,
    StageRecord,
    StepRecord,
)

Row = dict[str, Any]
MAX_ARMS = 200  # beyond it the state of the arms is not kept step by step


def now() -> str:
    """Return the time, ISO-8601 in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def finite(value: float | None) -> float | None:
    """Return the number, or None for what no database and no chart takes well."""
    return None if value is None or not math.isfinite(value) else float(value)


def run_row(record: RunRecord) -> Row:
    """Make a run's row."""
    return {
        "uid": record.uid,
        "name": record.name,
        "seed": record.seed,
        "model": record.model,
        "objective": record.objective,
        "scheduler": record.scheduler,
        "bandit": record.bandit,
        "spec": dict(record.spec),
        "host": dict(record.host),
        "status": "running",
        "created_at": now(),
    }


def stage_rows(run: RunHandle, record: StageRecord) -> Iterator[tuple[Table, Sequence[Row]]]:
    """Make the rows of a stage's start, by table."""
    yield (
        tables.stage,
        [
            {
                "run_id": run.run_id,
                "stage": record.index,
                "environment_id": run.environment(record.environment),
                "start_step": record.start_step,
                "num_steps": record.num_steps,
                "replay": record.replay,
                "started_at": now(),
            }
        ],
    )
    picks = [] if record.pick is None else [record.pick]
    yield tables.pick, [_pick(run, record.start_step, record.index, pick) for pick in picks]
    yield tables.event, [event_row(run, record.start_step, e, stage=record.index) for e in record.events]


def step_rows(run: RunHandle, record: StepRecord) -> Iterator[tuple[Table, Sequence[Row]]]:
    """Make the rows of a step, by table."""
    step = record.step
    yield tables.step, [_step(run, record)]
    yield tables.pick, [_pick(run, step, record.stage, pick) for pick in record.picks]
    yield tables.task_group, [_group(run, step, group) for group in record.groups]
    yield tables.step_metric, [_metric(run, step, metric) for metric in record.metrics]
    yield tables.sample, [_sample(run, step, None, sample) for sample in record.samples]
    yield tables.event, [event_row(run, step, event) for event in record.events]
    if len(record.arms) <= MAX_ARMS:
        yield (
            tables.arm_state,
            [
                {
                    "run_id": run.run_id,
                    "step": step,
                    "bandit": arm.bandit,
                    "arm": arm.arm,
                    "probability": arm.probability,
                    "value": finite(arm.value),
                    "num_picks": arm.num_picks,
                }
                for arm in record.arms
            ],
        )


def boundary_rows(
    run: RunHandle, record: BoundaryRecord, eval_config_id: int
) -> Iterator[tuple[Table, Sequence[Row]]]:
    """Make the rows of a boundary, by table."""
    after = record.after_stage
    yield (
        tables.boundary,
        [
            {
                "run_id": run.run_id,
                "after_stage": after,
                "step": record.step,
                "eval_config_id": eval_config_id,
                "seconds": record.seconds,
                "created_at": now(),
            }
        ],
    )
    yield tables.eval_cell, [_cell(run, after, cell, eval_config_id) for cell in record.cells]
    yield tables.eval_item, _items(run, after, record.items)
    yield tables.sample, [_sample(run, record.step, after, sample) for sample in record.samples]
    yield tables.event, [event_row(run, record.step, e, after_stage=after) for e in record.events]


def event_row(
    run: RunHandle, step: int, record: EventRecord, stage: int | None = None, after_stage: int | None = None
) -> Row:
    """Make an event's row."""
    return {
        "run_id": run.run_id,
        "step": step,
        "stage": stage,
        "after_stage": after_stage,
        "kind": record.kind,
        "text": record.text,
        "data": dict(record.data),
        "created_at": now(),
    }


def _step(run: RunHandle, record: StepRecord) -> Row:
    return {
        "run_id": run.run_id,
        "step": record.step,
        "stage": record.stage,
        "stage_step": record.stage_step,
        "seconds": record.seconds,
        "num_tokens": record.num_tokens,
        "num_samples": record.num_samples,
        "created_at": now(),
    }


def _pick(run: RunHandle, step: int, stage: int, record: PickRecord) -> Row:
    return {
        "run_id": run.run_id,
        "step": step,
        "stage": stage,
        "level": record.level,
        "slot": record.slot,
        "role": record.role,
        "environment_id": run.environment(record.environment),
        "arm": record.arm,
        "probability": record.probability,
        "signal": finite(record.signal),
    }


def _group(run: RunHandle, step: int, record: GroupRecord) -> Row:
    scored = [float(value) for value in record.values if value is not None]
    return {
        "run_id": run.run_id,
        "step": step,
        "slot": record.slot,
        "environment_id": run.environment(record.environment),
        "category_id": run.category(record.environment, record.category),
        "task_key": record.task_key,
        "task_index": record.task_index,
        "role": record.role,
        "num_samples": len(record.values),
        "num_scored": len(scored),
        "num_correct": sum(1 for correct in record.correct if correct),
        "value_sum": math.fsum(scored),
        "scores": [None if value is None else float(value) for value in record.values],
        "correct": list(record.correct),
        "reasons": list(record.reasons),
        "versions": list(record.versions),
        "num_tokens": list(record.num_tokens),
        "finishes": list(record.finishes),
    }


def _metric(run: RunHandle, step: int, record: MetricRecord) -> Row:
    return {
        "run_id": run.run_id,
        "step": step,
        "metric_id": run.metric(record.name),
        "environment_id": run.environment(record.environment),
        "category_id": run.category(record.environment, record.category),
        "value": finite(record.value),
        "n": record.n,
    }


def _sample(run: RunHandle, step: int, after_stage: int | None, record: SampleRecord) -> Row:
    return {
        "run_id": run.run_id,
        "step": step,
        "after_stage": after_stage,
        "slot": record.slot,
        "sample": record.sample,
        "environment_id": run.environment(record.environment),
        "category_id": run.category(record.environment, record.category),
        "task_key": record.task_key,
        "messages": [dict(message) for message in record.messages],
        "completion": record.completion,
        "value": finite(record.value),
        "correct": record.correct,
        "reason": record.reason,
    }


def _cell(run: RunHandle, after_stage: int, record: CellRecord, eval_config_id: int) -> Row:
    return {
        "run_id": run.run_id,
        "after_stage": after_stage,
        "environment_id": run.environment(record.environment),
        "category_id": run.category(record.environment, record.category),
        "metric_id": run.metric(record.metric),
        "split": record.split,
        "eval_config_id": eval_config_id,
        "holdout_id": run.holdout(record.environment, record.category, record.split),
        "value": finite(record.value),
        "stderr": finite(record.stderr),
        "num_items": record.num_items,
        "samples_per_item": record.samples_per_item,
    }


def _items(run: RunHandle, after_stage: int, records: Sequence[ItemRecord]) -> list[Row]:
    places: dict[tuple[str, str], int] = {}
    rows = []
    for record in records:
        of = (record.environment, record.category)
        places[of] = places.get(of, -1) + 1
        rows.append(_item(run, after_stage, places[of], record))
    return rows


def _item(run: RunHandle, after_stage: int, place: int, record: ItemRecord) -> Row:
    return {
        "run_id": run.run_id,
        "after_stage": after_stage,
        "environment_id": run.environment(record.environment),
        "category_id": run.category(record.environment, record.category),
        "item": place,
        "task_key": record.task_key,
        "num_scored": record.num_scored,
        "num_correct": record.num_correct,
        "value_sum": record.value_sum,
        "entropy_sum": record.entropy_sum,
        "num_tokens": record.num_tokens,
        "answers": list(record.answers),
    }
