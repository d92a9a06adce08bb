"""Questions whose answer is a summary: the database adds up, so that a long run is told as fast as a short one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Double, Integer, Select, and_, case, cast, func, select
from sqlalchemy.sql import FromClause

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


def stage_means(run_id: int, metric: str, last: int) -> Select[Any]:
    """A training metric of the environment that a stage trains, weighted by n, over the stage's last steps."""
    row, stage = t.step_metric.c, t.stage.c
    late = row.step > stage.end_step - last
    return (
        select(stage.stage, _weighted().label("value"), func.sum(row.n).label("n"))
        .select_from(_of_trained())
        .where(*_trained(run_id, metric), late)
        .group_by(stage.stage)
        .order_by(stage.stage)
    )


def stage_curves(run_id: int, metric: str, width: int) -> Select[Any]:
    """The same over the stage's steps, averaged over bins of `width` steps."""
    row, stage = t.step_metric.c, t.stage.c
    stage_step = row.step - stage.start_step
    place = _bin(stage_step, width)
    return (
        select(
            stage.stage,
            _mean_step(stage_step).label("stage_step"),
            _weighted().label("value"),
            func.sum(row.n).label("n"),
        )
        .select_from(_of_trained())
        .where(*_trained(run_id, metric))
        .group_by(stage.stage, place)
        .order_by(stage.stage, place)
    )


def _of_trained() -> FromClause:
    """Join metrics with the stages they are of."""
    row, stage = t.step_metric.c, t.stage.c
    return t.step_metric.join(t.metric_def).join(
        t.stage,
        and_(stage.run_id == row.run_id, row.step > stage.start_step, row.step <= stage.end_step),
    )


def _trained(run_id: int, metric: str) -> tuple[Any, ...]:
    """Of a stage's own environment, categories together; a flat stage has number 0, which is the whole batch."""
    row = t.step_metric.c
    own = row.environment_id == t.stage.c.environment_id
    return row.run_id == run_id, t.metric_def.c.name == metric, row.category_id == 0, row.n > 0, own


def _weighted() -> Any:
    row = t.step_metric.c
    return func.sum(row.value * row.n) / func.sum(case((row.value.is_not(None), row.n)))


def sums(run_id: int, metrics: Sequence[str]) -> Select[Any]:
    """Sum training metrics of the whole batch over all steps."""
    row, name = t.step_metric.c, t.metric_def.c.name
    return (
        select(name.label("metric"), func.sum(row.value).label("total"))
        .select_from(t.step_metric.join(t.metric_def))
        .where(row.run_id == run_id, row.environment_id == 0, name.in_(metrics))
        .group_by(name)
    )


def extents(run_id: int, metrics: Sequence[str]) -> Select[Any]:
    """Mean and largest value of training metrics over all steps, of every environment and of the whole batch."""
    row, name, environment = t.step_metric.c, t.metric_def.c.name, t.environment.c
    return (
        select(
            name.label("metric"),
            case((environment.environment_id != 0, environment.name)).label("environment"),
            func.avg(row.value).label("mean"),
            func.max(row.value).label("largest"),
        )
        .select_from(t.step_metric.join(t.metric_def).join(t.environment))
        .where(row.run_id == run_id, row.category_id == 0, name.in_(metrics), row.value.is_not(None))
        .group_by(name, environment.environment_id, environment.name)
        .order_by(name, environment.environment_id)
    )


def taught(run_id: int, reward: str) -> Select[Any]:
    """Count every category's groups, and those whose samples did not all earn the same.

    Verdicts differ where some but not all are correct. Of values every step has the share of groups without spread.
    """
    group, metric = t.task_group.c, t.step_metric.c
    by = (group.environment_id, group.category_id)
    mixed = case(((group.num_correct > 0) & (group.num_correct < group.num_scored), 1), else_=0)
    groups = (
        select(*by, func.count().label("num_groups"), func.sum(mixed).label("num_mixed"))
        .where(group.run_id == run_id)
        .group_by(*by)
        .subquery()
    )
    spread = (
        select(
            metric.environment_id, metric.category_id, func.sum(metric.n * (1 - metric.value)).label("num")
        )
        .select_from(t.step_metric.join(t.metric_def))
        .where(metric.run_id == run_id, t.metric_def.c.name == "zero_var_groups")
        .group_by(metric.environment_id, metric.category_id)
        .subquery()
    )
    source = groups.join(t.environment, t.environment.c.environment_id == groups.c.environment_id)
    source = source.join(t.category, t.category.c.category_id == groups.c.category_id)
    source = source.outerjoin(
        spread,
        and_(
            spread.c.environment_id == groups.c.environment_id,
            spread.c.category_id == groups.c.category_id,
        ),
    )
    counted = groups.c.num_mixed if reward == "correct" else func.round(func.coalesce(spread.c.num, 0))
    return (
        select(
            t.environment.c.name.label("environment"),
            t.category.c.name.label("category"),
            groups.c.num_groups,
            cast(counted, Integer).label("num_taught"),
        )
        .select_from(source)
        .order_by(groups.c.environment_id, groups.c.category_id)
    )


def _mean_step(step: Any) -> Any:
    """Average as a float; a database may answer for whole numbers with a decimal."""
    return func.avg(cast(step, Double))


def _bin(step: Any, width: int) -> Any:
    """Number a step's bin; steps count from 1."""
    return (step - 1) // width
