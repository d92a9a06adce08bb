"""Settings against each other, paired by seed: one test, the interval that says the same, and the verdict from it.

One rule decides (docs/decisions/0021): a difference is claimed when its interval leaves out the value of no
difference. The interval is that of the sign-flip test at .05 over the number of comparisons, so that p, interval,
verdict and sentence cannot disagree, and all intervals of a comparison hold together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from store.comparison import statistics
from store.comparison.measures import Measure
from store.comparison.scores import SEED, RunScore, ScoredSetting, table, unscaled
from store.comparison.statistics import ALPHA, Interval

RECOMMENDED = 2  # seeds beyond those needed: 8 rather than 6

Verdict = Literal["not enough", "no difference", "better", "worse", "higher", "lower"]


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


def pairs(settings: Sequence[ScoredSetting], baseline: str | None, of: Measure) -> list[Pair]:
    """Compare every setting with the baseline, or with every earlier one."""
    by_label = {setting.label: setting for setting in settings}
    if baseline is None:
        chosen = [(ours, theirs) for theirs, ours in combinations(settings, 2)]
    else:
        chosen = [(ours, by_label[baseline]) for ours in settings if ours.label != baseline]
    return [_pair(ours, theirs, of, len(chosen)) for ours, theirs in chosen]


def _pair(ours: ScoredSetting, theirs: ScoredSetting, of: Measure, num_comparisons: int) -> Pair:
    x, y = _shared(ours, theirs)
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
        interval=None if test.interval is None else unscaled(test.interval, of),
        p=test.p if some else None,
        p_corrected=statistics.bonferroni(test.p, num_comparisons) if some else None,
        is_exact=test.is_exact,
        effect_size=effect,
        improvement=statistics.probability_of_improvement(table(x, of), table(y, of)) if some else None,
        num_comparisons=num_comparisons,
        seeds_needed=needed,
        seeds_recommended=needed + RECOMMENDED,
        seeds_for_power=None if planned is None else max(planned, needed),
        verdict=_verdict(test.interval, of.direction),
    )


def _shared(ours: ScoredSetting, theirs: ScoredSetting) -> tuple[list[RunScore], list[RunScore]]:
    """The runs of the seeds that both have, in the same order."""
    seeds = {run.seed for run in ours.runs} & {run.seed for run in theirs.runs}
    x, y = ([run for run in setting.runs if run.seed in seeds] for setting in (ours, theirs))
    return x, y


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
