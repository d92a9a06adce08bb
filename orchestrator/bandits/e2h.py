"""Easy to hard by a drift: the levels' probabilities move smoothly from the easy ones to the hard ones.

With u = t / `steps`, levels i = 0 .. L - 1, and p_min = 2 / (L (L + 1)) by default:

    classic    level min(floor(u L), L - 1)
    balanced   1 / L
    cosine     alpha = (1 + cos(pi u)) / 2;  alpha (L - i) + (1 - alpha) (i + 1), each term normalised first;
               at least p_min, then normalised
    gaussian   q ~ exp(-(i - mu)^2 / (2 sigma^2)), mu = u^beta (L - 1);  p_min + (1 - L p_min) q

Source: arXiv 2506.06632 and its published code, whose defaults these are.
It goes by time alone and learns nothing; an unseen category is like any other of its level.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import numpy as np
from pydantic import Field

from orchestrator.bandits.contracts import Floats
from orchestrator.bandits.difficulty_levels import LevelScheduleBandit, LevelScheduleConfig
from orchestrator.bandits.softmax import normalised, softmax

SOURCE = "arXiv 2506.06632"


class Config(LevelScheduleConfig):
    type: Literal["e2h"] = "e2h"
    schedule: Literal["classic", "balanced", "cosine", "gaussian"] = Field(
        "gaussian", description="Shape of the drift."
    )
    beta: float = Field(0.5, gt=0, description="Gaussian: the centre is at u^beta; below 1 fast at first.")
    sigma: float = Field(0.5, ge=1e-3, le=1e6, description="Gaussian: its width, in levels.")
    p_min: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Cosine and gaussian: least probability of a level, 1 / L at most. Null: 2 / (L (L + 1)).",
    )


class E2H(LevelScheduleBandit):
    config: Config

    def shares(self, num_rungs: int) -> Floats:
        match self.config.schedule:
            case "classic":
                return np.where(np.arange(num_rungs) == self.stage(num_rungs), 1.0, 0.0)
            case "balanced":
                return np.full(num_rungs, 1 / num_rungs)
            case "cosine":
                alpha = (1 + math.cos(math.pi * self.progress)) / 2
                late = normalised(np.arange(1.0, num_rungs + 1))
                drift = alpha * late[::-1] + (1 - alpha) * late
                return normalised(np.maximum(drift, self._p_min(num_rungs)))
            case "gaussian":
                mu, p_min = self.progress**self.config.beta * (num_rungs - 1), self._p_min(num_rungs)
                q = softmax(-((np.arange(num_rungs) - mu) ** 2) / (2 * self.config.sigma**2))
                return p_min + (1 - num_rungs * p_min) * q

    def _p_min(self, num_rungs: int) -> float:
        if (p_min := self.config.p_min) is None:
            return 2 / (num_rungs * (num_rungs + 1))
        if p_min * num_rungs > 1:
            raise ValueError(
                f"p_min {p_min:g} is too much for {num_rungs} levels; at most {1 / num_rungs:g}, or leave it out"
            )
        return p_min


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> E2H:
    return E2H(arms, rng, config)
