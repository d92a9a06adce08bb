"""Questions whose answer is a summary: the database adds up, so that a long run is told as fast as a short one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Double, Select, and_, case, cast, func, select

from store.ledger import tables as t

# an environment's own rows: not pooled over environments, not of one category
_OF_ENVIRONMENTS = (t.step_metric.c.environment_id != 0, t.step_metric.c.category_id == 0)


def curves(run_id: int, metrics: Sequence[str], width: int) -> Select[Any]:
    """Every environment's training metrics, averaged over bins of `width` steps, weighted by their n."""
    row, name, environment = t.step_metric.c, t.metric_def.c.name, t.environment.c
    seen = case((row.value.is_not(None), row.n))
    place = _bin(row.step, width)
    return (
        select(
            name.label("metric"),
            environment.name.label("environment"),
            _mean_step(row.step).label("step"),
            (func.sum(row.value * row.n) / func.sum(seen)).label("value"),
            func.sum(row.n).label("n"),
        )
        .select_from(t.step_metric.join(t.metric_def).join(t.environment))
        .where(row.run_id == run_id, name.in_(metrics), row.n > 0, *_OF_ENVIRONMENTS)
        .group_by(name, environment.environment_id, environment.name, place)
        .order_by(name, environment.environment_id, place)
    )


def arm_curves(run_id: int, width: int) -> Select[Any]:
    """Every arm's probability, averaged over bins of `width` steps."""
    row = t.arm_state.c
    place = _bin(row.step, width)
    return (
        select(
            row.bandit,
            row.arm,
            _mean_step(row.step).label("step"),
            func.avg(row.probability).label("probability"),
        )
        .where(row.run_id == run_id)
        .group_by(row.bandit, row.arm, place)
        .order_by(row.bandit, row.arm, place)
    )


def arm_paths(run_id: int) -> Select[Any]:
    """Where every arm's probability began, went and ended, in the order in which arms appeared."""
    row = t.arm_state.c
    path = (
        select(
            row.bandit,
            row.arm,
            func.min(row.step).label("first"),
            func.max(row.step).label("last"),
            func.min(row.probability).label("probability_min"),
            func.max(row.probability).label("probability_max"),
        )
        .where(row.run_id == run_id)
        .group_by(row.bandit, row.arm)
        .subquery()
    )
    begin, end = t.arm_state.alias(), t.arm_state.alias()
    source = path
    for state, step in ((begin, path.c.first), (end, path.c.last)):
        same = (
            state.c.run_id == run_id,
            state.c.step == step,
            state.c.bandit == path.c.bandit,
            state.c.arm == path.c.arm,
        )
        source = source.join(state, and_(*same))  # type: ignore[assignment]
    return (
        select(
            path.c.bandit,
            path.c.arm,
            begin.c.probability.label("probability_start"),
            path.c.probability_min,
            path.c.probability_max,
            end.c.probability.label("probability_end"),
            end.c.value.label("value_end"),
            end.c.num_picks,
        )
        .select_from(source)
        .order_by(path.c.first, path.c.bandit, path.c.arm)
    )


def sums(run_id: int, metrics: Sequence[str]) -> Select[Any]:
    """Sum training metrics of the whole batch over all steps."""
    row, name = t.step_metric.c, t.metric_def.c.name
    return (
        select(name.label("metric"), func.sum(row.value).label("total"))
        .select_from(t.step_metric.join(t.metric_def))
        .where(row.run_id == run_id, row.environment_id == 0, name.in_(metrics))
        .group_by(name)
    )


def _mean_step(step: Any) -> Any:
    """Average as a float; a database may answer for whole numbers with a decimal."""
    return func.avg(cast(step, Double))


def _bin(step: Any, width: int) -> Any:
    """Number a step's bin; steps count from 1."""
    return (step - 1) // width
