"""Intervals that describe a mean, a ratio or a share; what decides between settings is `comparison.statistics`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

LEVEL = 0.95  # of intervals
FEWEST_SEEDS = 3  # runs whose mean has an interval: of two its half is 12.7 standard errors


@dataclass(frozen=True)
class Interval:
    """An interval, and how many resamples or sign patterns it comes from."""

    low: float
    high: float
    num_draws: int = 0  # 0: none, it is a formula
    is_exact: bool = True  # every resample or pattern was looked at

    def holds(self, value: float) -> bool:
        """Whether a value is inside; the ends are."""
        return self.low <= value <= self.high


def t_interval(differences: ArrayLike) -> Interval:
    """Student's interval of a mean: at least two differences."""
    d = np.asarray(differences, float)
    half = float(special.stdtrit(d.size - 1, (1 + LEVEL) / 2) * d.std(ddof=1) / math.sqrt(d.size))
    return Interval(float(d.mean()) - half, float(d.mean()) + half)


def ratio_interval(values: ArrayLike, bases: ArrayLike) -> Interval:
    """Student's interval of mean(values) / mean(bases) over pairs, linearised at the ratio: at least two pairs."""
    x, base = np.asarray(values, float), np.asarray(bases, float)
    ratio = float(x.mean() / base.mean())
    around = t_interval((x - ratio * base) / base.mean())
    return Interval(ratio + around.low, ratio + around.high)


def wilson(count: float, total: int) -> Interval:
    """Wilson's interval of a share (plasticity.md 6): it stays inside [0, 1], also at no and at all.

    `count` may be a sum of shares, of things that do not count by halves: then the interval is a little too wide.
    """
    z = float(special.ndtri((1 + LEVEL) / 2))
    share, spread = count / total, z * z / total
    middle, half = share + spread / 2, z * math.sqrt(share * (1 - share) / total + spread / (4 * total))
    return Interval((middle - half) / (1 + spread), (middle + half) / (1 + spread))
