"""What carried over: matrices and their outcomes, averaged over a setting's seeds, and differenced between settings.

"After stage i" is the same place in two runs only if both trained the same environments until then. So runs are
averaged at the boundaries up to which they did, and at their end; where a scheduler chose otherwise in one seed there
is a hole rather than an average of different things. Cells describe: their intervals are Student's, each for itself,
and no verdict is made from them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from store import carryover
from store.carryover import OUTCOMES, Matrices, difference
from store.comparison.runs import ComparedRun, Pool, evaluated_on_other_tasks
from store.comparison.scores import Pair, ScoredSetting
from store.intervals import FEWEST_SEEDS, Interval, t_interval
from store.ledger.queries import Reading

METRICS = ("pass_1", "entropy_token")
START, END = "start", "end"


@dataclass(frozen=True)
class MeanCell:
    """A mean over seeds; of a ratio, a geometric one."""

    mean: float | None  # None: defined in no run
    n: int  # seeds behind it
    interval: Interval | None  # None: fewer than `FEWEST_SEEDS`


@dataclass(frozen=True)
class MeanRow:
    """A boundary."""

    label: str  # START, the number of the stage before it, or END
    environment: str | None  # that the stage trained; None: all, or not the same one in all runs
    cells: Mapping[str, MeanCell]  # by environment


@dataclass(frozen=True)
class MeanMatrix:
    """A metric after stage i on environment j: a setting's, or a setting's minus another's, paired by seed."""

    metric: str
    setting: str
    baseline: str | None  # None: the setting's own mean
    num_seeds: int
    parts_at: int | None  # the first stage in which not all runs did the same; None: they all did
    rows: Sequence[MeanRow]


@dataclass(frozen=True)
class CarryOver:
    """What carried over, by setting."""

    pool: Pool  # whose tasks these are, whatever pool is compared
    environments: Sequence[str]
    left_out: Sequence[str]  # environments whose held-out tasks are not the same in all runs
    outcomes: Mapping[str, Mapping[str, MeanCell]]  # by setting and name; none if an environment is left out
    matrices: Sequence[MeanMatrix]
    differences: Sequence[MeanMatrix]
    partly: Mapping[str, Sequence[str]]  # outcomes that are of a part of their terms only, with the runs where they are
    trained_in_some: Sequence[str]  # environments that had a stage in some runs only
    with_gaps: Sequence[str]  # settings of which a run's record has gaps, as a ledger was lost


def carry_over(
    reading: Reading, entries: Sequence[ComparedRun], settings: Sequence[ScoredSetting], pairs: Sequence[Pair]
) -> CarryOver:
    """Average and difference what the runs of these settings measured at boundaries."""
    found = {entry.run.name: reading.carry_over(entry.run.name) for entry in entries}
    by_label = {s.label: {run.seed: found[run.run] for run in s.runs} for s in settings}
    left_out = evaluated_on_other_tasks(reading, entries)
    measured = dict.fromkeys(name for one in found.values() for _, name in one.accuracy)
    names = [name for name in measured if name not in left_out]
    runs = {label: [carryover.of_run(one) for one in own.values()] for label, own in by_label.items()}
    outcomes = {
        label: {one.name: _cell([run[one.name] for run in own], one.kind == "ratio") for one in OUTCOMES}
        for label, own in runs.items()
    }
    alone = [(label, None, [(one,) for one in own.values()]) for label, own in by_label.items()]
    paired = [
        (
            pair.setting,
            pair.baseline,
            [(by_label[pair.setting][s], by_label[pair.baseline][s]) for s in pair.seeds],
        )
        for pair in pairs
        if pair.seeds
    ]
    return CarryOver(
        "anchor",
        names,
        left_out,
        {} if left_out else outcomes,
        [_mean_matrix(metric, *whose, names) for whose in alone for metric in METRICS],
        [_mean_matrix(metric, *whose, names) for whose in paired for metric in METRICS],
        runs_with_parts(found),
        _trained_in_some([set(one.first) for one in found.values() if one.first]),
        [s.label for s in settings if any(reading.gaps(run.run) for run in s.runs)],
    )


def runs_with_parts(found: Mapping[str, Matrices]) -> dict[str, list[str]]:
    """Name the outcomes that not all of their terms are behind, with the runs in which that is so."""
    parts: dict[str, list[str]] = {}
    for run, one in found.items():
        for name in carryover.partly(one):
            parts.setdefault(name, []).append(run)
    return parts


def _trained_in_some(trained: Sequence[set[str]]) -> list[str]:
    """Name the environments that only some runs trained, of those of which that is known."""
    return sorted(name for name in {*chain(*trained)} if not all(name in own for own in trained))


def _mean_matrix(
    metric: str, setting: str, baseline: str | None, seeds: Sequence[Sequence[Matrices]], names: Sequence[str]
) -> MeanMatrix:
    """Average over seeds, at every boundary up to which all runs trained the same, and at their end.

    Of each seed there is its run; or its run, and the run whose values are subtracted.
    """

    def value(runs: Sequence[Matrices], after: int | None, name: str) -> float | None:
        first, *others = (
            (run.accuracy if metric == "pass_1" else run.entropy).get(
                (len(run.stages) if after is None else after, name)
            )
            for run in runs
        )
        return difference(others[0], first) if others else first

    stages = [run.stages for runs in seeds for run in runs]
    shortest, longest = min(map(len, stages)), max(map(len, stages))
    alike = next((i for i in range(shortest) if len({own[i] for own in stages}) > 1), shortest)
    places: list[tuple[str, str | None, int | None]] = [(START, None, 0)]
    places += [(str(i), stages[0][i - 1], i) for i in range(1, alike + 1)]
    parts_at = None if alike == longest else alike + 1
    if parts_at is not None:
        places.append((END, None, None))

    def cells(after: int | None) -> dict[str, MeanCell]:
        return {name: _cell([value(runs, after, name) for runs in seeds]) for name in names}

    rows = [MeanRow(label, environment, cells(after)) for label, environment, after in places]
    return MeanMatrix(metric, setting, baseline, len(seeds), parts_at, rows)


def _cell(values: Sequence[float | None], is_ratio: bool = False) -> MeanCell:
    known = np.array([value for value in values if value is not None])
    if not known.size:
        return MeanCell(None, 0, None)
    if not is_ratio:
        return MeanCell(float(known.mean()), known.size, t_interval(known) if known.size >= FEWEST_SEEDS else None)
    if not known.min():  # nothing was left in one of them: no logarithm, so no spread either
        return MeanCell(0.0, known.size, None)
    logs = _cell(np.log(known).tolist())
    ends = logs.interval and Interval(math.exp(logs.interval.low), math.exp(logs.interval.high))
    return MeanCell(math.exp(logs.mean or 0.0), known.size, ends)
