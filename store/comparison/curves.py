"""Curves of settings: each a mean over its seeds, with the range that the seeds span.

Stages of different lengths are never averaged step by step: every run is read at the same shares of each stage, by
interpolating on `stage_step`. The axis counts steps where all runs have the same stages, else stages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from store.comparison.result import Comparison
from store.comparison.scores import ScoredSetting
from store.comparison.statistics import Floats
from store.courses import Cells, course_of_means
from store.ledger.queries import Reading
from store.ledger.query_rows import StageRow, by_key
from store.plasticity import curves_of
from store.probes import probes_of

MAX_POINTS = 96  # of a curve
HELD_OUT = ("pass_1", "entropy_token")  # metrics that are read at boundaries


@dataclass(frozen=True)
class Axis:
    """Where stages begin and end."""

    edges: Sequence[float]  # of the boundaries: steps, or the numbers of the stages
    names: Sequence[str]  # of the stages' environments, where all runs agree
    is_in_steps: bool


@dataclass(frozen=True)
class SeedRange:
    """A setting at one place of the axis: mean and range of its seeds."""

    x: float
    mean: float
    least: float  # of the seeds
    most: float


Curves = Mapping[str, Sequence[SeedRange]]  # by setting


@dataclass(frozen=True)
class ProbeCurves:
    """What copies of the policy learn after the last stage, over the steps of the copy."""

    kind: str
    task: str
    metric: str
    base: Sequence[SeedRange]  # before training, of all runs
    now: Curves


@dataclass(frozen=True)
class SettingCurves:
    """The curves of all settings."""

    axis: Axis
    training: Curves  # accuracy of the environment that a stage trains
    entropy: Curves  # its token entropy
    held_out: Curves  # accuracy at boundaries, mean over `environments`
    held_out_entropy: Curves
    environments: Sequence[str]  # that are compared: all runs have them, with the same held-out tasks
    num_environments: int  # that any of the runs has
    probes: Sequence[ProbeCurves]


def read_curves(reading: Reading, comparison: Comparison) -> SettingCurves:
    """Read the curves of all runs."""
    settings = comparison.settings
    stages = {run.run: reading.stages(run.run) for setting in settings for run in setting.runs}
    most = max(stages.values(), key=len)
    named = {tuple(stage.environment or "" for stage in own) for own in stages.values()}
    names = next(iter(named)) if len(named) == 1 else [""] * len(most)
    if len({tuple(map(_steps_done, own)) for own in stages.values()}) == 1:
        axis = Axis([0.0, *(float(stage.start_step + _steps_done(stage)) for stage in most)], names, True)
    else:
        axis = Axis([float(i) for i in range(len(most) + 1)], names, False)
    cells = {run: {metric: _cells(reading, run, metric) for metric in HELD_OUT} for run in stages}
    known = [{name for row in own["pass_1"].values() for name in row} for own in cells.values()]
    asked = comparison.strata if comparison.stratum == "environment" else comparison.carry_over.environments
    shared = [
        name for name in comparison.carry_over.environments if name in asked and all(name in own for own in known)
    ]
    return SettingCurves(
        axis,
        training=_trained(reading, settings, stages, axis, "accuracy"),
        entropy=_trained(reading, settings, stages, axis, "entropy_token"),
        held_out=_measured(cells, "pass_1", shared, settings, axis),
        held_out_entropy=_measured(cells, "entropy_token", shared, settings, axis),
        environments=shared,
        num_environments=len({*chain(*known)}),
        probes=_probes(reading, settings),
    )


def _steps_done(stage: StageRow) -> int:
    """Steps of a stage that is over; it may have ended early."""
    return (stage.start_step if stage.end_step is None else stage.end_step) - stage.start_step


def _trained(
    reading: Reading,
    settings: Sequence[ScoredSetting],
    stages: Mapping[str, Sequence[StageRow]],
    axis: Axis,
    metric: str,
) -> Curves:
    """Every run's values at the same shares of each stage."""
    longest = max(_steps_done(stage) for own in stages.values() for stage in own)
    places = max(2, MAX_POINTS // (len(axis.edges) - 1))
    width = max(1, -(-longest // places))
    shares = (np.arange(min(places, longest)) + 0.5) / min(places, longest)
    read: dict[tuple[str, int], Floats] = {}  # by run and stage
    for run, own in stages.items():
        points = [point for point in reading.stage_curves(run, metric, width) if point.value is not None]
        for stage in own:
            here = [(point.stage_step, point.value) for point in points if point.stage == stage.stage]
            if here:
                steps, values = np.array(here).T
                read[run, stage.stage] = np.interp(shares, (steps - 0.5) / max(1, _steps_done(stage)), values)
    curves: dict[str, list[SeedRange]] = {setting.label: [] for setting in settings}
    for setting in settings:
        for stage_number, low in enumerate(axis.edges[:-1], start=1):
            xs = low + shares * (axis.edges[stage_number] - low)
            runs = [read[run.run, stage_number] for run in setting.runs if (run.run, stage_number) in read]
            curves[setting.label] += _over_seeds(xs, np.array(runs))
    return curves


def _cells(reading: Reading, run: str, metric: str) -> dict[int, dict[str, float | None]]:
    """What a run measured of its environments, after every stage."""
    cells: dict[int, dict[str, float | None]] = {}
    for cell in reading.matrix(run, metric, by_category=False):
        if cell.environment is not None:
            cells.setdefault(cell.after_stage, {})[cell.environment] = cell.value
    return cells


def _measured(
    cells: Mapping[str, Mapping[str, Cells]],
    metric: str,
    environments: Sequence[str],
    settings: Sequence[ScoredSetting],
    axis: Axis,
) -> Curves:
    """At every boundary the mean over environments; one that it left out is there as it was measured last."""
    curves: dict[str, list[SeedRange]] = {setting.label: [] for setting in settings}
    for setting in settings:
        courses = [
            course_of_means(
                {
                    after: {name: value for name, value in row.items() if name in environments}
                    for after, row in cells[run.run][metric].items()
                }
            )
            for run in setting.runs
        ]
        for after, x in enumerate(axis.edges):
            means = [[mean] for course in courses if (mean := course.get(after)) is not None]
            curves[setting.label] += _over_seeds(np.array([x]), np.array(means))
    return curves


def _probes(reading: Reading, settings: Sequence[ScoredSetting]) -> list[ProbeCurves]:
    """Average every kind and task over the runs of a setting, each the mean of its probe's seeds."""
    found: dict[tuple[str, str, str, str], dict[tuple[str, bool], list[dict[int, float]]]] = {}
    for setting in settings:
        for run in setting.runs:
            own = curves_of(probes_of(reading, run.run).results)
            last = max((curve.after_stage for curve in own), default=0)
            ends = [curve for curve in own if curve.after_stage in (0, last) and len(curve.points) > 1]
            for key, curves in by_key(ends, lambda c: (c.kind, c.task, c.metric, c.sha256)).items():
                for after, of_seeds in by_key(curves, lambda c: c.after_stage).items():
                    points = by_key((point for curve in of_seeds for point in curve.points), lambda point: point[0])
                    means = {step: float(np.mean([value for _, value in at])) for step, at in points.items()}
                    found.setdefault(key, {}).setdefault((setting.label, after == 0), []).append(means)
    made = []
    for (kind, task, metric, _), runs in found.items():
        base = [run for (_, is_base), own in runs.items() if is_base for run in own]
        now = {label: _at_steps(own) for (label, is_base), own in runs.items() if not is_base}
        made.append(ProbeCurves(kind, task, metric, _at_steps(base), now))
    return [one for one in made if one.now]


def _at_steps(runs: Sequence[Mapping[int, float]]) -> list[SeedRange]:
    """Sum runs up at the steps that all of them have; a copy that diverged ends early."""
    steps = [step for step in (runs[0] if runs else ()) if all(step in run for run in runs)]
    values = np.array([[run[step] for step in steps] for run in runs])
    return _over_seeds(np.array(steps, float), values)


def _over_seeds(xs: Floats, values: Floats) -> list[SeedRange]:
    """Sum the runs up at every place; `values` has a row a run."""
    if not len(values):
        return []
    columns = zip(xs, values.mean(axis=0), values.min(axis=0), values.max(axis=0), strict=True)
    return [SeedRange(*map(float, column)) for column in columns]
