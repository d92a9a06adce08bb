"""Settings with their scores: what every run got, and what the seeds come to together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from store.comparison import statistics
from store.comparison.measures import Measure, Scores
from store.comparison.runs import ComparedRun
from store.comparison.statistics import Floats, Interval

SEED = 0  # of the bootstrap: the same runs give the same intervals, whatever else is compared


@dataclass(frozen=True)
class RunScore:
    """A run's scores."""

    run: str
    seed: int
    score: float  # mean over the strata
    strata: Mapping[str, float]
    num_samples: int  # trained on


@dataclass(frozen=True)
class ScoredSetting:
    """A setting over its seeds. Of a ratio, means are geometric."""

    label: str
    runs: Sequence[RunScore]  # by seed
    iqm: float
    iqm_interval: Interval | None  # None: one run has no spread
    mean: float
    median: float
    strata: Mapping[str, float]  # means over the seeds


def setting(
    label: str, entries: Sequence[ComparedRun], found: Mapping[str, Scores], of: Measure
) -> ScoredSetting:
    """Sum a setting's runs up; `found` has the same strata for every run."""
    runs = [
        RunScore(entry.run.name, entry.run.seed, _mean(own, of), own, entry.num_samples)
        for entry in entries
        for own in [found[entry.run.name]]
    ]
    scores = table(runs, of)
    rng = np.random.default_rng(SEED)
    interval = statistics.bootstrap(scores, rng, statistics.interquartile_means) if len(runs) > 1 else None
    means = [of.unscaled(mean) for mean in scores.mean(axis=0).tolist()]
    return ScoredSetting(
        label,
        runs,
        iqm=of.unscaled(statistics.interquartile_mean(scores.ravel())),
        iqm_interval=None if interval is None else unscaled(interval, of),
        mean=of.unscaled(float(scores.mean())),
        median=of.unscaled(float(np.median(scores))),
        strata=dict(zip(runs[0].strata, means, strict=True)),
    )


def table(runs: Sequence[RunScore], of: Measure) -> Floats:
    """A row a run, a column a stratum, on the scale on which scores differ."""
    return np.array([[of.scaled(value) for value in run.strata.values()] for run in runs])


def unscaled(interval: Interval, of: Measure) -> Interval:
    """Bring an interval back from that scale."""
    ends = of.unscaled(interval.low), of.unscaled(interval.high)
    return Interval(*ends, interval.num_draws, interval.is_exact)


def _mean(strata: Mapping[str, float], of: Measure) -> float:
    return of.unscaled(float(np.mean([of.scaled(value) for value in strata.values()])))
