"""A run's history, changed as a whole: copied for a fork, taken back to a checkpoint; stages that end or restart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, and_, delete, func, insert, literal, or_, select, update
from sqlalchemy.sql import ColumnElement

from store.ledger import tables as t
from store.records import DIVERGENCE, ENDED, INTERVENTION

Ending = Mapping[str, Any]  # the columns of a stage that are filled in at its end

_OPEN: Ending = {"end_step": None, "stop_reason": None, "ended_at": None}
_COPIED = (
    *(t.stage, t.step, t.pick, t.arm_state, t.task_group, t.step_metric, t.event, t.sample),
    *(t.boundary, t.eval_cell, t.eval_item),
    *(t.measurement, t.network_cell, t.probe, t.probe_point, t.intervention, t.holdout_query),
)


def copy_history(connection: Connection, source: int, target: int) -> None:
    """Copy all that a run did and measured; not its checkpoints, files of its own folder, and not how it ended."""
    numbered = {
        t.event.c.event_id,
        t.sample.c.sample_id,
        t.holdout_query.c.holdout_query_id,
    }  # by the database, each copy anew
    for table in _COPIED:
        columns = [column for column in table.c if column not in numbered]
        rows = select(*(literal(target) if column.name == "run_id" else column for column in columns))
        copied = rows.where(table.c.run_id == source)
        if table is t.event:
            copied = copied.where(t.event.c.kind.not_in(ENDED))
        in_order = copied.order_by(*(column for column in table.c if column in numbered))
        connection.execute(insert(table).from_select([column.name for column in columns], in_order))


def end_stage(connection: Connection, run_id: int, stage: int, end: Ending, signal: float | None) -> None:
    """Write how a stage ended, and the reward that the scheduler was given for it."""
    ended = update(t.stage).where(t.stage.c.run_id == run_id, t.stage.c.stage == stage)
    connection.execute(ended.values(end))
    rewarded = update(t.pick).where(*_scheduler_pick(run_id, stage))
    connection.execute(rewarded.values(signal=signal))


def forget_stage(connection: Connection, run_id: int, stage: int) -> None:
    """Delete a stage's start, for it to be written again."""
    for table in (t.stage, t.event):
        connection.execute(delete(table).where(table.c.run_id == run_id, table.c.stage == stage))
    connection.execute(delete(t.pick).where(*_scheduler_pick(run_id, stage)))


def rewind(connection: Connection, run_id: int, step: int, num_boundaries: int, is_before_intervening: bool) -> None:
    """Keep `step` steps and the first `num_boundaries` boundaries of a run; boundary 0 is before any training.

    Stage i ends with boundary i, so after k boundaries the stages up to k may have started. The last of them
    is open again; the curriculum starts it anew if the checkpoint was made before it, which changes nothing.
    `is_before_intervening`: what was done to the policy at the last of these boundaries is to be done again.
    """
    _forget_interventions(connection, run_id, num_boundaries - is_before_intervening)
    for table in (t.step, t.step_metric, t.task_group, t.arm_state):
        connection.execute(delete(table).where(table.c.run_id == run_id, table.c.step > step))
    measured = (t.measurement, t.network_cell, t.probe, t.probe_point, t.intervention, t.holdout_query)
    for table in (t.boundary, t.eval_cell, t.eval_item, *measured):
        gone = delete(table).where(table.c.run_id == run_id, table.c.after_stage >= num_boundaries)
        connection.execute(gone)
    pick, stage, checkpoint, event, sample = t.pick.c, t.stage.c, t.checkpoint.c, t.event.c, t.sample.c
    # an evaluation after an intervention is of the boundary's own step
    has_diverged = and_(event.kind == DIVERGENCE, event.step >= step)
    later = {
        t.pick: or_(pick.step > step, pick.stage > num_boundaries),
        t.stage: or_(stage.start_step > step, stage.stage > num_boundaries),
        t.checkpoint: or_(checkpoint.step > step, checkpoint.num_boundaries > num_boundaries),
        t.event: or_(
            event.step > step, event.stage > num_boundaries, event.after_stage >= num_boundaries, has_diverged
        ),
        t.sample: or_(and_(sample.after_stage.is_(None), sample.step > step), sample.after_stage >= num_boundaries),
    }
    for table, condition in later.items():
        connection.execute(delete(table).where(table.c.run_id == run_id, condition))
    end_stage(connection, run_id, num_boundaries, _OPEN, None)


def _forget_interventions(connection: Connection, run_id: int, first: int) -> None:
    """Delete what was decided and done to the policy after stage `first` and later, and what was measured of that."""
    of = {
        t.intervention: None,
        t.eval_cell: t.eval_cell.c.split == "intervened",
        t.measurement: t.measurement.c.name == INTERVENTION,
        t.holdout_query: t.holdout_query.c.asker == INTERVENTION,
    }
    for table, which in of.items():
        own = (table.c.run_id == run_id, table.c.after_stage >= first)
        connection.execute(delete(table).where(*own, *([] if which is None else [which])))
    event = t.event.c
    own = (event.run_id == run_id, event.after_stage >= first)
    # what was then found in evaluating has its own kinds, and came with it
    begun = select(func.min(event.event_id)).where(*own, event.kind == INTERVENTION).scalar_subquery()
    connection.execute(delete(t.event).where(*own, event.event_id >= begun))


def remove(connection: Connection, run_id: int) -> None:
    """Delete a run: its history, what it is to other runs, and its own row. Others must not refer to it any more."""
    for table in reversed(t.metadata.sorted_tables):
        if "run_id" in table.c:
            connection.execute(delete(table).where(table.c.run_id == run_id))


def _scheduler_pick(run_id: int, stage: int) -> tuple[ColumnElement[bool], ...]:
    return t.pick.c.run_id == run_id, t.pick.c.stage == stage, t.pick.c.level == "scheduler"
