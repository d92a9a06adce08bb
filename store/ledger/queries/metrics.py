"""Questions about training metrics. Long series are added up by the database, so that a long run is read quickly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Double, and_, case, cast, func, select
from sqlalchemy.sql import ColumnElement

from store.ledger import tables as t
from store.ledger.queries.base import Queries, bin_of, within
from store.ledger.query_rows import CurvePoint, Extent, MetricRow, Point, PooledRow, StageMean, StagePoint
from store.metrics import metric as known_metric

_row, _environment = t.step_metric.c, t.environment.c
_metric: ColumnElement[str] = t.metric_def.c.name
_NAMED = t.step_metric.join(t.metric_def)
_N = func.sum(_row.n).label("n")
_MEAN = (func.sum(_row.value * _row.n) / func.sum(case((_row.value.is_not(None), _row.n)))).label("value")
# a stage with the metrics of the environment it trains, categories together; a flat stage has number 0: the whole batch
_TRAINED = and_(
    t.stage.c.run_id == _row.run_id,
    _row.step > t.stage.c.start_step,
    _row.step <= t.stage.c.end_step,
    _row.environment_id == t.stage.c.environment_id,
    _row.category_id == 0,
    _row.n > 0,
)


class MetricQueries(Queries):
    """Training metrics: over steps, of stages, summed up."""

    def series(
        self, name: str, metric: str, environment: str | None = None, category: str | None = None
    ) -> list[Point]:
        """A training metric over the steps."""
        query = self.rows_of(name, Point, t.step_metric).where(
            _metric == known_metric(metric).name,
            _row.environment_id == 0 if environment is None else _environment.name == environment,
            _row.category_id == 0 if category is None else t.category.c.name == category,
        )
        return self.ask(Point, query.order_by(_row.step))

    def last_metrics(self, name: str) -> list[MetricRow]:
        """All training metrics of the last step."""
        last = select(func.max(t.step.c.step)).where(t.step.c.run_id == self.run_id(name))
        return self._metrics(name, _row.step == last.scalar_subquery())

    def numbers(self, name: str, after: int = 0, until: int | None = None) -> list[MetricRow]:
        """All training metrics of the steps later than `after`, up to `until`."""
        return self._metrics(name, *within(_row.step, after, until))

    def _metrics(self, name: str, *only: ColumnElement[bool]) -> list[MetricRow]:
        order = (_row.step, _row.metric_id, _row.environment_id, _row.category_id)
        return self.ask(MetricRow, self.rows_of(name, MetricRow, t.step_metric).where(*only).order_by(*order))

    def pooled(self, name: str, metrics: Sequence[str], after: int = 0) -> list[PooledRow]:
        """Training metrics of the whole batch, of the steps later than `after`."""
        query = (
            select(_row.step, _metric.label("metric"), _row.value)
            .select_from(_NAMED)
            .where(*self._of(name, metrics), _row.step > after, _row.environment_id == 0)
            .order_by(_row.step)
        )
        return self.ask(PooledRow, query)

    def curves(self, name: str, metrics: Sequence[str], width: int = 1) -> list[CurvePoint]:
        """Training metrics of every environment over the steps, averaged over bins of `width` steps, by their n."""
        names = (_metric.label("metric"), _environment.name.label("environment"))
        of_environments = (_row.environment_id != 0, _row.category_id == 0)
        place = bin_of(_row.step, width)
        query = (
            select(*names, _mean_step(_row.step).label("step"), _MEAN, _N)
            .select_from(_NAMED.join(t.environment))
            .where(*self._of(name, metrics), _row.n > 0, *of_environments)
            .group_by(_metric, _environment.environment_id, _environment.name, place)
            .order_by(_metric, _environment.environment_id, place)
        )
        return self.ask(CurvePoint, query)

    def sums(self, name: str, metrics: Sequence[str]) -> dict[str, float]:
        """Sum training metrics of the whole batch over all steps; one that was never recorded is left out."""
        query = (
            select(_metric, func.sum(_row.value))
            .select_from(_NAMED)
            .where(*self._of(name, metrics), _row.environment_id == 0)
            .group_by(_metric)
        )
        rows = self.access.read(lambda connection: connection.execute(query).all())
        return {metric: total for metric, total in rows if total is not None}

    def extents(self, name: str, metrics: Sequence[str]) -> list[Extent]:
        """Mean and largest value of training metrics over all steps; of the whole batch first, then by environment."""
        query = (
            select(
                _metric.label("metric"),
                t.name_or_null("environment"),
                func.avg(_row.value).label("mean"),
                func.max(_row.value).label("largest"),
            )
            .select_from(_NAMED.join(t.environment))
            .where(*self._of(name, metrics), _row.category_id == 0, _row.value.is_not(None))
            .group_by(_metric, _environment.environment_id, _environment.name)
            .order_by(_metric, _environment.environment_id)
        )
        return self.ask(Extent, query)

    def stage_means(self, name: str, metric: str, last: int) -> list[StageMean]:
        """A training metric of the environment that a stage trained, over the last steps of each ended stage."""
        query = (
            select(t.stage.c.stage, _MEAN, _N)
            .select_from(_NAMED.join(t.stage, _TRAINED))
            .where(*self._of(name, [metric]), _row.step > t.stage.c.end_step - last)
            .group_by(t.stage.c.stage)
        )
        return self.ask(StageMean, query.order_by(t.stage.c.stage))

    def stage_curves(self, name: str, metric: str, width: int = 1) -> list[StagePoint]:
        """The same over all steps of each ended stage, averaged over bins of `width` steps."""
        stage_step = _row.step - t.stage.c.start_step
        by = (t.stage.c.stage, bin_of(stage_step, width))
        query = (
            select(t.stage.c.stage, _mean_step(stage_step).label("stage_step"), _MEAN, _N)
            .select_from(_NAMED.join(t.stage, _TRAINED))
            .where(*self._of(name, [metric]))
        )
        return self.ask(StagePoint, query.group_by(*by).order_by(*by))

    def _of(self, name: str, metrics: Sequence[str]) -> tuple[ColumnElement[bool], ...]:
        """Choose a run's rows of some metrics. Raises `UnknownMetric`."""
        known = [known_metric(metric).name for metric in metrics]
        return _row.run_id == self.run_id(name), _metric.in_(known)


def _mean_step(step: Any) -> ColumnElement[Any]:
    """Average as a float; a database may answer for whole numbers with a decimal."""
    return func.avg(cast(step, Double))
