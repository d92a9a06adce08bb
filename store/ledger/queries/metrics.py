"""Questions about training metrics. Long series are added up by the database, so that a long run is read quickly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Double, Select, case, cast, func, select
from sqlalchemy.sql import ColumnElement

from store.ledger import tables as t
from store.ledger.queries.base import Answers, Queries, bin_of, within
from store.ledger.query_rows import MetricRow
from store.metrics import metric as known_metric

_row, _environment, _stage = t.step_metric.c, t.environment.c, t.stage.c
_metric: ColumnElement[str] = t.metric_def.c.name
_NAMED = t.step_metric.join(t.metric_def)
_N = func.sum(_row.n).label("n")
_MEAN = (func.sum(_row.value * _row.n) / func.sum(case((_row.value.is_not(None), _row.n)))).label("value")
_STAGE_STEP = _row.step - _stage.start_step
_FIRST = func.min(_environment.environment_id)  # of several by one name, where a version changed in mid-run


class MetricQueries(Queries):
    """Training metrics: over steps, of stages, summed up. A metric that is not known is an `UnknownMetric`."""

    def series(
        self, name: str, metric: str, environment: str | None = None, category: str | None = None
    ) -> list[MetricRow]:
        """A training metric over the steps."""
        of_environment = _row.environment_id == 0 if environment is None else _environment.name == environment
        of_category = _row.category_id == 0 if category is None else t.category.c.name == category
        return self._metrics(name, _metric == known_metric(metric).name, of_environment, of_category)

    def evaluations(self, name: str, after: int = 0) -> list[MetricRow]:
        """What was evaluated inside stages (`eval_...`), in the steps later than `after`."""
        return self._metrics(name, t.metric_def.c.metric_group == "measure", _row.step > after)

    def last_metrics(self, name: str) -> list[MetricRow]:
        """All training metrics of the last step."""
        last = select(func.max(t.step.c.step)).where(t.step.c.run_id == self.run_id(name))
        return self._metrics(name, _row.step == last.scalar_subquery())

    def numbers(self, name: str, after: int = 0, until: int | None = None) -> list[MetricRow]:
        """All training metrics of the steps later than `after`, up to `until`."""
        return self._metrics(name, *within(_row.step, after, until))

    def wholes(self, name: str, metrics: Sequence[str], after: int = 0) -> list[MetricRow]:
        """Training metrics of the whole batch and of environments, categories together, of the steps after `after`."""
        known = [known_metric(metric).name for metric in metrics]
        return self._metrics(name, _metric.in_(known), _row.step > after, _row.category_id == 0)

    def _metrics(self, name: str, *only: ColumnElement[bool]) -> list[MetricRow]:
        order = (_row.step, _row.metric_id, _row.environment_id, _row.category_id)
        return self.ask(MetricRow, self.rows_of(name, MetricRow, t.step_metric).where(*only).order_by(*order))

    def curves(self, name: str, metrics: Sequence[str], width: int = 1) -> Answers:
        """Training metrics of every environment over the steps, averaged over bins of `width` steps, by their n."""
        names = (_metric.label("metric"), _environment.name.label("environment"))
        of_environments = (_row.environment_id != 0, _row.category_id == 0)
        place = bin_of(_row.step, width)
        query = (
            select(*names, _mean_step(_row.step).label("step"), _MEAN, _N)
            .select_from(_NAMED.join(t.environment))
            .where(*self._of(name, metrics), _row.n > 0, *of_environments)
            .group_by(_metric, _environment.name, place)
            .order_by(_metric, _FIRST, place)
        )
        return self.fetch(query)

    def sums(self, name: str, metrics: Sequence[str]) -> dict[str, float]:
        """Sum training metrics of the whole batch over all steps; one that was never recorded is left out."""
        query = select(_metric, func.sum(_row.value)).select_from(_NAMED).group_by(_metric)
        query = query.where(*self._of(name, metrics), _row.environment_id == 0)
        return {metric: total for metric, total in self.fetch(query) if total is not None}

    def extents(self, name: str, metrics: Sequence[str]) -> Answers:
        """Mean and largest value of training metrics over all steps; of the whole batch first, then by environment."""
        mean, largest = func.avg(_row.value).label("mean"), func.max(_row.value).label("largest")
        of_batch = case((_FIRST != 0, _environment.name)).label("environment")
        query = (
            select(_metric.label("metric"), of_batch, mean, largest)
            .select_from(_NAMED.join(t.environment))
            .where(*self._of(name, metrics), _row.category_id == 0, _row.value.is_not(None))
            .group_by(_metric, _environment.name)
            .order_by(_metric, _FIRST)
        )
        return self.fetch(query)

    def stage_means(self, name: str, metric: str, last: int) -> Answers:
        """A training metric of the environment that a stage trained, over the last steps of each ended stage."""
        late = _row.step > _stage.end_step - last
        return self.fetch(self._trained(name, metric, _stage.stage).where(late))

    def stage_curves(self, name: str, metric: str, width: int = 1) -> Answers:
        """The same over all steps of each ended stage, averaged over bins of `width` steps."""
        return self.fetch(self._trained(name, metric, _stage.stage, bin_of(_STAGE_STEP, width)))

    def _trained(self, name: str, metric: str, *by: ColumnElement[Any]) -> Select[Any]:
        query = select(_stage.stage, _mean_step(_STAGE_STEP).label("stage_step"), _MEAN, _N)
        named = query.select_from(t.trained(_NAMED)).where(*self._of(name, [metric]), _row.n > 0)
        return named.group_by(*by).order_by(*by)

    def _of(self, name: str, metrics: Sequence[str]) -> tuple[ColumnElement[bool], ...]:
        """Choose a run's rows of some metrics."""
        known = [known_metric(metric).name for metric in metrics]
        return _row.run_id == self.run_id(name), _metric.in_(known)


def _mean_step(step: Any) -> ColumnElement[Any]:
    """Average as a float; a database may answer for whole numbers with a decimal."""
    return func.avg(cast(step, Double))
