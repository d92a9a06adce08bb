"""Curves of settings: each a mean over its seeds, with the range that the seeds span.

Stages of different lengths are never averaged step by step: every run is read at the same shares of each stage, by
interpolating on `stage_step`. The axis counts steps where all runs have the same stages, else stages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from store.comparison.result import Comparison
from store.comparison.scores import ScoredSetting
from store.comparison.statistics import Floats
from store.ledger.queries import Reading
from store.ledger.query_rows import StagePoint, StageRow

MAX_POINTS = 96  # of a curve


@dataclass(frozen=True)
class Axis:
    """Where stages begin and end."""

    edges: Sequence[float]  # of the boundaries: steps, or the numbers of the stages
    names: Sequence[str]  # of the stages' environments, where all runs agree
    is_in_steps: bool


@dataclass(frozen=True)
class PlotArea:
    """A setting at one place of the axis."""

    x: float
    mean: float
    least: float  # of the seeds
    most: float


Curves = Mapping[str, Sequence[PlotArea]]  # by setting


@dataclass(frozen=True)
class Drawn:
    """Everything that is drawn."""

    axis: Axis
    training: Curves  # accuracy of the environment that a stage trains
    entropy: Curves  # its token entropy
    held_out: Curves  # accuracy at boundaries, mean over the environments
    held_out_entropy: Curves


def draw(reading: Reading, comparison: Comparison) -> Drawn:
    """Read the curves of all runs."""
    settings = comparison.settings
    stages = {run.run: reading.stages(run.run) for setting in settings for run in setting.runs}
    axis = _axis(list(stages.values()))
    return Drawn(
        axis,
        training=_trained(reading, settings, stages, axis, "accuracy"),
        entropy=_trained(reading, settings, stages, axis, "entropy_token"),
        held_out=_measured(reading, settings, axis, "pass_1"),
        held_out_entropy=_measured(reading, settings, axis, "entropy_token"),
    )


def _axis(runs: Sequence[Sequence[StageRow]]) -> Axis:
    ends = {tuple(_done(stage) for stage in stages) for stages in runs}
    most = max(runs, key=len)
    named = {tuple(stage.environment or "" for stage in stages) for stages in runs}
    names = next(iter(named)) if len(named) == 1 else [""] * len(most)
    if len(ends) == 1:
        return Axis([0.0, *(float(stage.start_step + _done(stage)) for stage in most)], names, True)
    return Axis([float(i) for i in range(len(most) + 1)], names, False)


def _done(stage: StageRow) -> int:
    """Steps of a stage that is over; it may have ended early."""
    return (stage.start_step if stage.end_step is None else stage.end_step) - stage.start_step


def _trained(
    reading: Reading,
    settings: Sequence[ScoredSetting],
    stages: Mapping[str, Sequence[StageRow]],
    axis: Axis,
    metric: str,
) -> Curves:
    longest = max(_done(stage) for own in stages.values() for stage in own)
    places = max(2, MAX_POINTS // (len(axis.edges) - 1))
    width = max(1, -(-longest // places))
    shares = (np.arange(min(places, longest)) + 0.5) / min(places, longest)
    curves: dict[str, list[PlotArea]] = {}
    for setting in settings:
        read = [
            _at(shares, reading.stage_curves(run.run, metric, width), stages[run.run]) for run in setting.runs
        ]
        curves[setting.label] = [
            place
            for stage in range(1, len(axis.edges))
            for place in _over_seeds(
                _between(axis, stage, shares), np.array([one[stage] for one in read if stage in one])
            )
        ]
    return curves


def _at(shares: Floats, points: Sequence[StagePoint], stages: Sequence[StageRow]) -> dict[int, Floats]:
    """A run's values at these shares of each stage."""
    found: dict[int, Floats] = {}
    for stage in stages:
        own = [(p.stage_step, p.value) for p in points if p.stage == stage.stage and p.value is not None]
        if own:
            steps, values = np.array(own).T
            found[stage.stage] = np.interp(shares, (steps - 0.5) / max(1, _done(stage)), values)
    return found


def _between(axis: Axis, stage: int, shares: Floats) -> Floats:
    low, high = axis.edges[stage - 1], axis.edges[stage]
    return low + shares * (high - low)


def _over_seeds(xs: Floats, values: Floats) -> list[PlotArea]:
    """Sum the runs up at every place; `values` has a row a run."""
    if not len(values):
        return []
    columns = zip(xs, values.mean(axis=0), values.min(axis=0), values.max(axis=0), strict=True)
    return [PlotArea(*map(float, column)) for column in columns]


def _measured(reading: Reading, settings: Sequence[ScoredSetting], axis: Axis, metric: str) -> Curves:
    """At every boundary the mean over the environments that the run measured there."""
    curves: dict[str, list[PlotArea]] = {}
    for setting in settings:
        runs = [_boundary_means(reading, run.run, metric) for run in setting.runs]
        curves[setting.label] = [
            place
            for after, x in enumerate(axis.edges)
            for place in _over_seeds(np.array([x]), np.array([[run[after]] for run in runs if after in run]))
        ]
    return curves


def _boundary_means(reading: Reading, run: str, metric: str) -> dict[int, float]:
    values: dict[int, list[float]] = {}
    for cell in reading.matrix(run, metric):
        if cell.category is None and cell.value is not None:
            values.setdefault(cell.after_stage, []).append(cell.value)
    return {after: float(np.mean(own)) for after, own in values.items()}
