"""Plateau: the stage does not get better any more.

Stops when the least-squares slope of the score over the last five evals is, with 95 % confidence, below `delta` an eval
(one-sided; curricula reference, section 7.3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from orchestrator.stop_rules.contracts import StopRule, StopRuleConfig, WindowStats

SOURCE = "curricula reference, section 7.3"
NUM_EVALS = 5
T_95 = 2.353363  # Student's t, one-sided 95 %, NUM_EVALS - 2 degrees of freedom


class Config(StopRuleConfig):
    """Options of plateau."""

    type: Literal["plateau"] = "plateau"
    delta: float = Field(
        0.005, gt=0, description="Gain of score an eval (ten steps) that is worth going on for."
    )


class Plateau(StopRule):
    """See the module."""

    def __init__(self, delta: float) -> None:
        self.delta = delta

    def verdict(self, evals: Sequence[WindowStats]) -> str | None:
        if len(evals) < NUM_EVALS:
            return None
        slope, upper = slope_and_bound([one.score for one in evals[-NUM_EVALS:]])
        if upper >= self.delta:
            return None
        return (
            f"plateau: the score gains {slope:.4f} in ten steps, below {upper:.4f} with 95 % confidence; "
            f"{self.delta:g} would be worth going on"
        )


def slope_and_bound(scores: Sequence[float]) -> tuple[float, float]:
    """Least-squares slope of NUM_EVALS scores, and its one-sided 95 % upper bound."""
    y = np.asarray(scores, dtype=np.float64)
    x = np.arange(NUM_EVALS) - (NUM_EVALS - 1) / 2
    slope = float(x @ y / (x @ x))
    residuals = y - y.mean() - slope * x
    stderr = math.sqrt(float(residuals @ residuals) / (NUM_EVALS - 2) / float(x @ x))
    return slope, slope + T_95 * stderr


def create(config: Config) -> Plateau:
    return Plateau(config.delta)
