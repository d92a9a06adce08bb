"""The bandit's reward: the mean absolute advantage of a group, before any filter, shaper or entropy transform.

For 0/1 rewards with pass rate p the raw form is 2 p (1 - p): largest where the policy succeeds half of the time,
zero where it always or never does. Self-Evolving Curriculum, arXiv 2505.14970.
`QuantileScale` brings rewards of unknown range to one unit: y = clip((x - low) / (high - low), 0, 1).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from orchestrator.bandits.contracts import Floats, Signal

STD_FLOOR = 0.01  # of rewards in [0, 1]: a smaller spread is noise, and dividing by it would make it a signal


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


QUANTILES = (0.2, 0.8)
FLAT = 1e-6  # quantiles closer than this are one value
LEAST_SHARE = 0.1  # of the widest range so far


class QuantileScale:
    """Maps rewards to [0, 1] between the 20 and 80 % quantiles of the last `history` of them: `add`, then `scale`.

    Source: the reward scaling of arXiv 1704.03003 (there to [-1, 1], from a random sample of all rewards); curricula
    reference, section 3.9. Against noise where nothing happens, the quantiles stay while they are less than 1e-6 apart,
    and their distance is never less than a tenth of the widest so far (a share, the unit being unknown; our choice).
    """

    def __init__(self, history: int = 1000) -> None:
        self._values: deque[float] = deque(maxlen=history)
        self.low = self.high = self.widest = 0.0

    @property
    def is_known(self) -> bool:
        """Whether there was any spread yet; until then `scale` gives 0 up to the only value seen, and 1 above."""
        return self.widest > 0

    def add(self, values: Sequence[float] | Floats) -> None:
        if not len(values):
            return
        self._values.extend(np.asarray(values, np.float64).tolist())
        low, high = np.quantile(np.array(self._values), QUANTILES).tolist()
        if high - low >= FLAT:
            self.widest = max(self.widest, high - low)
            missing = max(0.0, LEAST_SHARE * self.widest - (high - low))
            self.low, self.high = low - missing / 2, high + missing / 2
        elif not self.is_known:
            self.low = self.high = low

    def scale(self, values: Sequence[float] | Floats) -> Floats:
        """Place of each value between low and high, in [0, 1]."""
        x = np.asarray(values, np.float64)
        if not self.is_known:
            return (x > self.low).astype(np.float64)
        return np.clip((x - self.low) / (self.high - self.low), 0.0, 1.0)

    def state(self) -> dict[str, Any]:
        return {"values": list(self._values), "low": self.low, "high": self.high, "widest": self.widest}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._values = deque(state["values"], self._values.maxlen)
        self.low, self.high, self.widest = state["low"], state["high"], state["widest"]
