"""The bandit's reward: the mean absolute advantage of a group, before any filter, shaper or entropy transform.

For 0/1 rewards with pass rate p the raw form is 2 p (1 - p): largest where the policy succeeds half of the time,
zero where it always or never does. Self-Evolving Curriculum, arXiv 2505.14970.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from orchestrator.bandits.contracts import Floats, Signal

STD_FLOOR = (
    0.01  # of the reward range [0, 1]: below it a spread is noise, and dividing by it makes it a signal
)


def mean_absolute_advantage(rewards: Sequence[float], form: Signal = "raw") -> float | None:
    """Mean |A| over a group's rewards [G], or another form of the signal; None for fewer than two: no comparison.

    raw: r - mean. leave_one_out: r - mean of the others (unbiased for 2 p (1 - p) at every G).
    standardised: (r - mean) / max(sample std, .01), as the published code does but with the floor.
    learnability: p (1 - p), p the mean: for 0/1 rewards half of raw; it takes equal rewards between 0 and 1 for spread.
    Source: arXiv 2408.15099. variance: sample variance over the largest that G rewards in [0, 1] can have, which is 1
    at p = .5 (an odd G: nearest to it). Source: arXiv 2509.19803.
    """
    r = np.asarray(rewards, dtype=np.float64)
    if r.size < 2:
        return None
    mean = np.add.reduce(r) / r.size  # what r.mean() computes, at a third of its time
    if form == "learnability":
        return float(mean * (1 - mean))
    centred = r - mean
    if form == "variance":
        return min(1.0, _variance(centred) / _largest_variance(r.size))
    raw = float(np.add.reduce(np.abs(centred)) / r.size)
    if form == "raw":
        return raw
    if form == "leave_one_out":
        return raw * r.size / (r.size - 1)
    return raw / max(math.sqrt(_variance(centred)), STD_FLOOR)


def _variance(centred: Floats) -> float:
    """Sample variance of G rewards less their mean."""
    return float(np.add.reduce(centred * centred) / (centred.size - 1))


def _largest_variance(size: int) -> float:
    """Sample variance of as many ones as zeros among so many rewards, or nearly."""
    return (size // 2) * (size - size // 2) / (size * (size - 1))
