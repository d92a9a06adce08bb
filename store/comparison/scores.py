"""Settings with their scores, and against each other: one test, the interval that says the same, and the verdict.

One rule decides (docs/decisions/0021): a difference is claimed when its interval leaves out the value of no
difference. The interval is that of the sign-flip test at .05 over the number of comparisons, so that p, interval,
verdict and sentence cannot disagree, and all intervals of a comparison hold together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from store.comparison import statistics
from store.comparison.measures import Measure, Scores
from store.comparison.runs import ComparedRun
from store.comparison.statistics import ALPHA, Floats, Interval

SEED = 0  # of the bootstrap: the same runs give the same intervals, whatever else is compared
RECOMMENDED = 2  # seeds beyond those needed: 8 rather than 6

Verdict = Literal["not enough", "no difference", "better", "worse", "higher", "lower"]


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


@dataclass(frozen=True)
class Pair:
    """A setting against another, over the seeds that both have: differences, or quotients of what is a ratio."""

    setting: str
    baseline: str
    is_ratio: bool
    seeds: Sequence[int]
    differences: Sequence[float]  # by seed: setting minus baseline; of a ratio, setting over baseline
    mean: float | None  # geometric, of quotients; None: no seed in common
    interval: Interval | None  # corrected for all comparisons; None: fewer seeds than needed
    p: float | None  # sign-flip test
    p_corrected: float | None  # times the number of comparisons
    is_exact: bool  # all sign patterns were looked at
    effect_size: float | None  # d_z; of a ratio, that of the logarithms
    improvement: float | None
    num_comparisons: int
    seeds_needed: int
    seeds_recommended: int
    seeds_for_power: int | None
    verdict: Verdict

    @property
    def is_claim(self) -> bool:
        """Whether a difference was seen."""
        return self.verdict not in ("not enough", "no difference")


def setting(
    label: str, entries: Sequence[ComparedRun], found: Mapping[str, Scores], of: Measure
) -> ScoredSetting:
    """Sum a setting's runs up; `found` has the same strata for every run."""
    strata = [found[entry.run.name] for entry in entries]
    scores = np.array([[of.scaled(value) for value in own.values()] for own in strata])
    runs = [
        RunScore(entry.run.name, entry.run.seed, of.unscaled(float(np.mean(row))), own, entry.num_samples)
        for entry, own, row in zip(entries, strata, scores, strict=True)
    ]
    rng = np.random.default_rng(SEED)
    interval = statistics.bootstrap(scores, rng, statistics.interquartile_means) if len(runs) > 1 else None
    means = [of.unscaled(mean) for mean in scores.mean(axis=0).tolist()]
    return ScoredSetting(
        label,
        runs,
        iqm=of.unscaled(statistics.interquartile_mean(scores.ravel())),
        iqm_interval=_unscaled(interval, of),
        mean=of.unscaled(float(scores.mean())),
        median=of.unscaled(float(np.median(scores))),
        strata=dict(zip(strata[0], means, strict=True)),
    )


def pairs(settings: Sequence[ScoredSetting], baseline: str | None, of: Measure) -> list[Pair]:
    """Compare every setting with the baseline, or with every earlier one."""
    by_label = {setting.label: setting for setting in settings}
    if baseline is None:
        chosen = [(ours, theirs) for theirs, ours in combinations(settings, 2)]
    else:
        chosen = [(ours, by_label[baseline]) for ours in settings if ours.label != baseline]
    return [_pair(ours, theirs, of, len(chosen)) for ours, theirs in chosen]


def _pair(ours: ScoredSetting, theirs: ScoredSetting, of: Measure, num_comparisons: int) -> Pair:
    """Compare the runs of the seeds that both have."""
    seeds = {run.seed for run in ours.runs} & {run.seed for run in theirs.runs}
    x, y = ([run for run in setting.runs if run.seed in seeds] for setting in (ours, theirs))
    d = np.array([of.scaled(a.score) - of.scaled(b.score) for a, b in zip(x, y, strict=True)])
    some, alpha = d.size > 0, ALPHA / num_comparisons
    test = statistics.sign_flip(d, np.random.default_rng(SEED), alpha)
    effect = statistics.effect_size(d)
    needed = statistics.pairs_needed(num_comparisons)
    planned = statistics.seeds_for_power(effect, alpha=alpha) if effect is not None else None
    return Pair(
        ours.label,
        theirs.label,
        of.is_ratio,
        seeds=[run.seed for run in x],
        differences=[of.unscaled(one) for one in d.tolist()],
        mean=of.unscaled(float(d.mean())) if some else None,
        interval=_unscaled(test.interval, of),
        p=test.p if some else None,
        p_corrected=statistics.bonferroni(test.p, num_comparisons) if some else None,
        is_exact=test.is_exact,
        effect_size=effect,
        improvement=statistics.probability_of_improvement(_table(x, of), _table(y, of)) if some else None,
        num_comparisons=num_comparisons,
        seeds_needed=needed,
        seeds_recommended=needed + RECOMMENDED,
        seeds_for_power=None if planned is None else max(planned, needed),
        verdict=_verdict(test.interval, of.direction),
    )


def _verdict(interval: Interval | None, direction: int) -> Verdict:
    """Claim what the interval shows; a number without a good direction is higher or lower."""
    if interval is None:
        return "not enough"
    if interval.holds(0.0):
        return "no difference"
    is_up = interval.low > 0
    if direction == 0:
        return "higher" if is_up else "lower"
    return "better" if is_up == (direction > 0) else "worse"


def _table(runs: Sequence[RunScore], of: Measure) -> Floats:
    """A row a run, a column a stratum, on the scale on which scores differ."""
    return np.array([[of.scaled(value) for value in run.strata.values()] for run in runs])


def _unscaled(interval: Interval | None, of: Measure) -> Interval | None:
    """Bring an interval back from that scale."""
    if interval is None:
        return None
    ends = of.unscaled(interval.low), of.unscaled(interval.high)
    return Interval(*ends, interval.num_draws, interval.is_exact)
