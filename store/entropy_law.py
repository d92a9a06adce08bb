"""The law R = -a * exp(H) + b: without an entropy intervention, accuracy follows entropy along this curve.

Symbols: R a validation accuracy, H the policy's mean token entropy at the same time, nats. The ceiling is where entropy
is spent, at H = 0: b - a. What is still to be bought by spending entropy is R(0) - R(H now) = a * (exp(H now) - 1).

A diagnostic, and never the reading of a controller. Fit one environment at a time, and only runs that do nothing about
entropy: an intervention breaks the relation, which is its point. An `a` below 0 says that accuracy rose with entropy.

Empty cases: fewer than 4 points, or points without spread in H, are refused; accuracies without spread give a = 0 and
an R^2 of 0, for nothing was explained.

Source: The Entropy Mechanism of Reinforcement Learning for Reasoning Language Models, arXiv 2505.22617.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from store.errors import CannotFit

MIN_POINTS = 4
MIN_SPREAD = 1e-9  # of H, nats


@dataclass(frozen=True)
class EntropyLaw:
    """R = -a * exp(H) + b, as fitted."""

    a: float
    b: float
    r_squared: float  # share of the variance of R that it explains, 0 to 1

    @property
    def ceiling(self) -> float:
        """The accuracy where no entropy is left."""
        return self.b - self.a

    def accuracy(self, entropy: float) -> float:
        """The accuracy at an entropy, nats."""
        return self.b - self.a * math.exp(entropy)

    def rise(self, entropy: float) -> float:
        """How much accuracy is still to be bought by spending all of this entropy, nats."""
        return self.a * math.expm1(entropy)


def fit(entropies: Sequence[float], accuracies: Sequence[float]) -> EntropyLaw:
    """Fit by ordinary least squares of R on exp(H); `CannotFit` when the points cannot tell."""
    if len(entropies) != len(accuracies):
        raise CannotFit(
            f"the law needs pairs, and there are {len(entropies)} entropies and {len(accuracies)} accuracies"
        )
    if len(entropies) < MIN_POINTS:
        raise CannotFit(f"the law needs {MIN_POINTS} points or more to be fitted, and there are {len(entropies)}")
    points = np.array([entropies, accuracies], dtype=np.float64)
    if not np.isfinite(points).all():
        raise CannotFit("the law is fitted to finite numbers: leave out evaluations without a reading")
    if np.ptp(points[0]) < MIN_SPREAD:
        raise CannotFit(
            f"all {len(entropies)} points have the entropy {entropies[0]:g}: the law needs some spread in it"
        )
    x, r = np.exp(points[0]), points[1]
    dx, dr = x - x.mean(), r - r.mean()
    slope = float(dx @ dr / (dx @ dx))
    explained, whole = slope * float(dx @ dr), float(dr @ dr)
    r_squared = explained / whole if whole > 0 else 0.0
    return EntropyLaw(a=-slope, b=float(r.mean() - slope * x.mean()), r_squared=min(r_squared, 1.0))
