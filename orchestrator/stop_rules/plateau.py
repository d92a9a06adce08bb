"""Plateau: the stage does not get better any more.

Stops when the least-squares slope of the score over the last five windows of ten steps is, with 95 % confidence,
below `delta` a window (one-sided; curricula reference, section 7.3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from orchestrator.stop_rules.contracts import StopRule, StopRuleConfig, WindowStats

SOURCE = "curricula reference, section 7.3"
NUM_WINDOWS = 5
T_95 = 2.353363  # Student's t, one-sided 95 %, NUM_WINDOWS - 2 degrees of freedom


class Config(StopRuleConfig):
    type: Literal["plateau"] = "plateau"
    delta: float = Field(0.005, gt=0, description="Gain of score in ten steps that is worth going on for.")


@dataclass(frozen=True)
class Plateau(StopRule):
    delta: float

    def verdict(self, windows: Sequence[WindowStats]) -> str | None:
        if len(windows) < NUM_WINDOWS:
            return None
        slope, upper = slope_and_bound([one.score for one in windows[-NUM_WINDOWS:]])
        if upper >= self.delta:
            return None
        return (
            f"plateau: the score gains {slope:.4f} in ten steps, below {upper:.4f} with 95 % confidence; "
            f"{self.delta:g} would be worth going on"
        )


def slope_and_bound(scores: Sequence[float]) -> tuple[float, float]:
    """Least-squares slope of NUM_WINDOWS scores, and its one-sided 95 % upper bound."""
    y = np.asarray(scores, dtype=np.float64)
    x = np.arange(NUM_WINDOWS) - (NUM_WINDOWS - 1) / 2
    slope = float(x @ y / (x @ x))
    residuals = y - y.mean() - slope * x
    stderr = math.sqrt(float(residuals @ residuals) / (NUM_WINDOWS - 2) / float(x @ x))
    return slope, slope + T_95 * stderr


def create(config: Config) -> Plateau:
    return Plateau(config.delta)
