"""Detectors of change: each hears the rewards of an arm and says when they are no longer what they were.

They count in slots: a step in which an arm had n groups of mean reward r is n rewards of r. What they know is plain
JSON, by arm. Curricula reference, section 3.7.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from copy import deepcopy
from typing import Any

import numpy as np

from orchestrator.bandits.contracts import Floats


class Detector(ABC):
    """What every detector does."""

    def __init__(self) -> None:
        self.heard: dict[str, list[Any]] = {}

    @abstractmethod
    def changed(self, arm: str, reward: float, count: int) -> bool:
        """Hear `count` rewards of this mean; whether the arm has changed since it was last forgotten."""

    def forget(self, arm: str) -> None:
        """Begin anew with an arm."""
        self.heard.pop(arm, None)

    def state(self) -> dict[str, Any]:
        """All that was heard, as JSON."""
        return deepcopy(self.heard)

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.heard = deepcopy(state)


class Cusum(Detector):
    """Two cumulative sums of how far rewards lie above and below the mean of the first ones (arXiv 1711.03539).

        up <- max(0, up + y - u - drift),  down <- max(0, down + u - y - drift);  alarm: one of them >= threshold

    Args:
        samples: slots whose mean is u, the reward before the change.
        drift: a smaller change of the mean is never noticed.
        threshold: in reward times slots.
    """

    def __init__(self, samples: int, drift: float, threshold: float) -> None:
        super().__init__()
        self.samples, self.drift, self.threshold = samples, drift, threshold

    def changed(self, arm: str, reward: float, count: int) -> bool:
        """Add to the mean at first, afterwards to the sums."""
        known = self.heard.setdefault(arm, [0, 0.0, 0.0, 0.0])  # slots, sum of their rewards, up, down
        if known[0] < self.samples:
            known[0] += count
            known[1] += count * reward
            return False
        above = reward - known[1] / known[0]
        known[2] = max(0.0, known[2] + count * (above - self.drift))
        known[3] = max(0.0, known[3] + count * (-above - self.drift))
        return bool(max(known[2], known[3]) >= self.threshold)


class Glr(Detector):
    """Generalised likelihood ratio of one against two Bernoulli means (Besson and Kaufmann, 2019).

        alarm: max over s of  s kl(m[1..s], m) + (n - s) kl(m[s+1..n], m)  >=  ln(3 n^1.5 / delta)

    Rewards in [0, 1]. Tested every EVERY slots, at every step for s; a long history keeps its older half at half the
    resolution, so memory stays below LIMIT steps an arm.
    """

    EVERY = 10
    LIMIT = 200

    def __init__(self, delta: float) -> None:
        super().__init__()
        self.delta = delta

    def changed(self, arm: str, reward: float, count: int) -> bool:
        """Add to the history, and test it if it is time."""
        if not 0 <= reward <= 1:
            raise ValueError(
                f"the detector glr takes rewards in [0, 1] and was given {reward:g}: choose cusum or m_ucb"
            )
        history = self.heard.setdefault(arm, [0])  # slots, then [slots, sum of their rewards] by step
        before = history[0]
        history[0] += count
        history.append([count, count * reward])
        if len(history) > self.LIMIT:
            history[1:] = _halved(history[1 : self.LIMIT // 2 + 1]) + history[self.LIMIT // 2 + 1 :]
        if history[0] // self.EVERY == before // self.EVERY:
            return False
        counts, totals = np.array(history[1:], np.float64).T
        limit = math.log(3 * history[0] ** 1.5 / self.delta)
        return glr_statistic(counts, totals)[0] >= limit


def _halved(steps: list[list[float]]) -> list[list[float]]:
    """Join neighbouring steps, an even number of them."""
    return [[a[0] + b[0], a[1] + b[1]] for a, b in zip(steps[::2], steps[1::2], strict=True)]


def glr_statistic(counts: Floats, totals: Floats) -> tuple[float, int]:
    """The likelihood ratio of steps with so many slots and such sums of rewards, and after which step it is largest."""
    slots, rewards = np.cumsum(counts), np.cumsum(totals)
    mean, s, n = rewards[-1] / slots[-1], slots[:-1], slots[-1]
    if len(s) == 0 or not 0 < mean < 1:
        return 0.0, 0
    ratio = s * _kl(rewards[:-1] / s, mean) + (n - s) * _kl((rewards[-1] - rewards[:-1]) / (n - s), mean)
    return float(ratio.max()), int(ratio.argmax()) + 1


def _kl(p: Floats, q: float) -> Floats:
    """Divergence of Bernoulli(p) from Bernoulli(q), 0 < q < 1; p [S]."""
    p = np.clip(p, 0.0, 1.0)
    one, none = np.maximum(p, 1e-300), np.maximum(1 - p, 1e-300)
    return np.asarray(p * np.log(one / q) + (1 - p) * np.log(none / (1 - q)))


class Halves(Detector):
    """The sums of both halves of an arm's last `window` slots differ by more than `gap` (M-UCB, arXiv 1802.03692)."""

    def __init__(self, window: int, gap: float) -> None:
        super().__init__()
        self.window, self.gap = window, gap

    def changed(self, arm: str, reward: float, count: int) -> bool:
        """Add to the window; compare once it is full."""
        last = self.heard.setdefault(arm, [])
        last.extend([reward] * min(count, self.window))
        del last[: -self.window]
        if len(last) < self.window:
            return False
        half = self.window // 2
        return bool(abs(sum(last[half:]) - sum(last[:half])) > self.gap)
