"""The law R = -a * exp(H) + b: without an entropy intervention, accuracy follows entropy along this curve.

Symbols: R a validation accuracy, H the policy's mean token entropy at the same time, nats. The ceiling is where entropy
is spent, at H = 0: b - a. What is still to be bought by spending entropy is R(0) - R(H now) = a * (exp(H now) - 1).

A diagnostic, and never the reading of a controller. The coefficients belong to a model and its data, so a law is fitted
to one stage and one environment at a time, and only to runs that do nothing about entropy: an intervention breaks the
relation, which is its point. It is believed only where its conditions hold (plasticity.md 1.5): `why_not` says which
one does not.

Fewer than 3 points, or points without spread in H, cannot be fitted; accuracies without spread give a = 0 and an R^2 of
0, for nothing was explained.

Source: The Entropy Mechanism of Reinforcement Learning for Reasoning Language Models, arXiv 2505.22617.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from store.errors import CannotFit

FITTED_POINTS = 3  # two leave no error to tell
MIN_SPREAD = 1e-9  # of H, nats
# what a fit is believed for
MIN_POINTS = 8
MIN_FACTOR = 1.3  # of exp(H), from the least to the greatest
MIN_R_SQUARED = 0.9
TREND_LEVEL = 0.05  # of the two-sided t test that the residuals have no slope in their order


@dataclass(frozen=True)
class EntropyLaw:
    """R = -a * exp(H) + b, as fitted."""

    a: float
    b: float
    r_squared: float  # share of the variance of R that it explains, 0 to 1
    rmse: float = 0.0  # of the points
    ceiling_stderr: float = 0.0
    num_points: int = 0
    factor: float = 1.0  # of exp(H), from the least to the greatest
    trend_p: float = 1.0  # chance of residuals that follow their order as much as these, if they do not

    @property
    def ceiling(self) -> float:
        """The accuracy where no entropy is left."""
        return self.b - self.a

    @property
    def why_not(self) -> str | None:
        """Which of its conditions does not hold; None: they all do."""
        if self.num_points < MIN_POINTS:
            return f"{self.num_points} points, and {MIN_POINTS} are needed"
        if self.factor < MIN_FACTOR:
            return f"exp(H) spans a factor of {self.factor:.2f}, and {MIN_FACTOR} is needed"
        if self.a <= 0:
            return "accuracy did not rise as entropy fell"
        if self.r_squared < MIN_R_SQUARED:
            return f"it explains {self.r_squared:.2f} of the variance, and {MIN_R_SQUARED} is needed"
        if self.trend_p < TREND_LEVEL:
            return "what it leaves over follows the steps: something else moved too"
        return None

    def accuracy(self, entropy: float) -> float:
        """The accuracy at an entropy, nats."""
        return self.b - self.a * math.exp(entropy)

    def rise(self, entropy: float) -> float:
        """How much accuracy is still to be bought by spending all of this entropy, nats."""
        return self.a * math.expm1(entropy)


def fit(entropies: Sequence[float], accuracies: Sequence[float]) -> EntropyLaw:
    """Fit by ordinary least squares of R on exp(H), points in the order of their steps; `CannotFit` says why not."""
    if len(entropies) != len(accuracies):
        raise CannotFit(
            f"the law needs pairs, and there are {len(entropies)} entropies and {len(accuracies)} accuracies"
        )
    num = len(entropies)
    if num < FITTED_POINTS:
        raise CannotFit(f"the law needs {FITTED_POINTS} points or more to be fitted, and there are {num}")
    points = np.array([entropies, accuracies], dtype=np.float64)
    if not np.isfinite(points).all():
        raise CannotFit("the law is fitted to finite numbers: leave out evaluations without a reading")
    if np.ptp(points[0]) < MIN_SPREAD:
        raise CannotFit(f"all {num} points have the entropy {entropies[0]:g}: the law needs some spread in it")
    x, r = np.exp(points[0]), points[1]
    dx, dr = x - x.mean(), r - r.mean()
    slope = float(dx @ dr / (dx @ dx))
    explained, whole = slope * float(dx @ dr), float(dr @ dr)
    residuals = dr - slope * dx
    rest = float(residuals @ residuals)
    # the ceiling is the line at H = 0, where x = 1
    variance = rest / (num - 2) * (1 / num + (1 - float(x.mean())) ** 2 / float(dx @ dx))
    return EntropyLaw(
        a=-slope,
        b=float(r.mean() - slope * x.mean()),
        r_squared=min(explained / whole, 1.0) if whole > 0 else 0.0,
        rmse=math.sqrt(rest / num),
        ceiling_stderr=math.sqrt(variance),
        num_points=num,
        factor=float(x.max() / x.min()),
        trend_p=_trend_p(residuals) if rest > MIN_SPREAD * whole else 1.0,
    )


def _trend_p(residuals: NDArray[np.float64]) -> float:
    """The p value of the t test that residuals have no slope in their order."""
    num = len(residuals)
    order = np.arange(num) - (num - 1) / 2
    r = float(order @ residuals) / math.sqrt(float(order @ order) * float(residuals @ residuals))
    if abs(r) >= 1:
        return 0.0
    t = abs(r) * math.sqrt((num - 2) / (1 - r * r))
    return float(2 * special.stdtr(num - 2, -t))
