"""A run's history under another run's key: what a fork begins with."""

from __future__ import annotations

from sqlalchemy import Connection, insert, literal, select

from store.ledger import tables as t

COURSE = (t.stage, t.step, t.pick, t.arm_state, t.task_group, t.step_metric, t.event, t.sample)
MEASURED = (t.boundary, t.eval_cell, t.eval_item)
NUMBERED = (
    t.event.c.event_id,
    t.sample.c.sample_id,
)  # by the database, so each copy gets a number of its own


def copy_history(connection: Connection, source: int, target: int) -> None:
    """Copy all that a run did and measured; not its checkpoints, which are files of its own folder."""
    for table in (*COURSE, *MEASURED):
        columns = [column for column in table.c if column not in set(NUMBERED)]
        rows = select(*(literal(target) if column.name == "run_id" else column for column in columns))
        names = [column.name for column in columns]
        connection.execute(insert(table).from_select(names, rows.where(table.c.run_id == source)))
