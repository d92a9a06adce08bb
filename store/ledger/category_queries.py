"""What a bandit could pick, the trainable categories of a run, and how the groups of its picks were scored."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, or_, select

from store.ledger import tables as t


def categories(run_id: int) -> Select[Any]:
    """Every trainable category that the run evaluated or trained on, in the order of their names."""
    row, environment = t.category.c, t.environment.c
    measured = select(t.eval_cell.c.category_id).where(t.eval_cell.c.run_id == run_id)
    trained = select(t.task_group.c.category_id).where(t.task_group.c.run_id == run_id)
    return (
        select(environment.name.label("environment"), row.name, row.parameters)
        .select_from(t.category.join(t.environment))
        .where(
            row.category_id != 0,
            row.trainable,
            or_(row.category_id.in_(measured), row.category_id.in_(trained)),
        )
        .order_by(environment.name, row.name)
    )


def scores(run_id: int) -> Select[Any]:
    """Values and verdicts of every group in training, by step and slot."""
    row = t.task_group.c
    columns = (row.step, row.slot, row.scores.label("values"), row.correct)
    return select(*columns).where(row.run_id == run_id).order_by(row.step, row.slot)
