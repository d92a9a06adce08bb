"""Going back: delete what a run wrote after a point, so that it is as if it had never been written."""

from __future__ import annotations

from sqlalchemy import Connection, and_, delete, or_, update

from store.ledger import tables as t


def rewind(connection: Connection, run_id: int, step: int, num_boundaries: int) -> None:
    """Keep `step` steps and the first `num_boundaries` boundaries of a run; boundary 0 is before any training.

    Stage i ends with boundary i, so after k boundaries the stages up to k may have started. The last of them
    is open again; the conductor starts it anew if the checkpoint was made before it, which changes nothing.
    """
    for table in (t.step, t.step_metric, t.task_group, t.arm_state):
        connection.execute(delete(table).where(table.c.run_id == run_id, table.c.step > step))
    for table in (t.boundary, t.eval_cell, t.eval_item):
        connection.execute(
            delete(table).where(table.c.run_id == run_id, table.c.after_stage >= num_boundaries)
        )
    later = {
        t.pick: or_(t.pick.c.step > step, t.pick.c.stage > num_boundaries),
        t.stage: or_(t.stage.c.start_step > step, t.stage.c.stage > num_boundaries),
        t.checkpoint: or_(t.checkpoint.c.step > step, t.checkpoint.c.num_boundaries > num_boundaries),
        t.sample: or_(
            and_(t.sample.c.after_stage.is_(None), t.sample.c.step > step),
            t.sample.c.after_stage >= num_boundaries,
        ),
        t.event: or_(
            t.event.c.step > step, t.event.c.stage > num_boundaries, t.event.c.after_stage >= num_boundaries
        ),
    }
    for table, condition in later.items():
        connection.execute(delete(table).where(table.c.run_id == run_id, condition))
    connection.execute(
        update(t.stage)
        .where(t.stage.c.run_id == run_id, t.stage.c.stage == num_boundaries)
        .values(end_step=None, stop_reason=None, ended_at=None)
    )


def forget_stage(connection: Connection, run_id: int, stage: int) -> None:
    """Delete a stage's start, for it to be written again."""
    for table in (t.stage, t.event):
        connection.execute(delete(table).where(table.c.run_id == run_id, table.c.stage == stage))
    connection.execute(
        delete(t.pick).where(
            t.pick.c.run_id == run_id, t.pick.c.stage == stage, t.pick.c.level == "scheduler"
        )
    )
