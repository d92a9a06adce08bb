"""Easy to hard by a drift: the levels' probabilities move smoothly from the easy ones to the hard ones.

With u = step / steps, levels i = 0 .. L - 1 and p_min = 2 / (L (L + 1)) unless it is given:

    classic    level min(floor(u L), L - 1)
    balanced   1 / L
    cosine     a = (1 + cos(pi u)) / 2;  a * early + (1 - a) * late, with early ~ L - i and late ~ i + 1;
               at least p_min, then normalised
    gaussian   q ~ exp(-(i - m)^2 / (2 sigma^2)), m = u^beta (L - 1);  p_min + (1 - L p_min) q

Source: arXiv 2506.06632 and its published code, whose defaults these are.
It goes by time alone: it learns nothing and forgets nothing, and an unseen category is like any other of its level.
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
    """Options of the drift from easy to hard."""

    type: Literal["e2h"] = "e2h"
    schedule: Literal["classic", "balanced", "cosine", "gaussian"] = Field(
        "gaussian", description="Shape of the drift."
    )
    beta: float = Field(
        0.5, gt=0, description="Gaussian: the centre is at u^beta; below 1 it hurries at first."
    )
    sigma: float = Field(0.5, gt=0, description="Gaussian: its width, in levels.")
    p_min: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Cosine and gaussian: least probability of a level, 1 / L at most. Default: 2 / (L (L + 1)).",
    )


class E2H(LevelScheduleBandit):
    """A drift over levels; see the module."""

    def __init__(self, arms: Iterable[str], rng: np.random.Generator, config: Config) -> None:
        super().__init__(arms, rng, config)
        self.config = config

    def shares(self, num_rungs: int) -> Floats:
        """Probabilities of the levels at this step."""
        match self.config.schedule:
            case "classic":
                return np.where(np.arange(num_rungs) == self.stage(num_rungs), 1.0, 0.0)
            case "balanced":
                return np.full(num_rungs, 1 / num_rungs)
            case "cosine":
                return self._cosine(num_rungs)
            case "gaussian":
                return self._gaussian(num_rungs)

    def _cosine(self, num: int) -> Floats:
        easy = (1 + math.cos(math.pi * self.progress)) / 2
        late = normalised(np.arange(1.0, num + 1))
        drift = easy * late[::-1] + (1 - easy) * late
        return normalised(np.maximum(drift, self._least(num)))

    def _gaussian(self, num: int) -> Floats:
        centre = self.progress**self.config.beta * (num - 1)
        least = self._least(num)
        bell = softmax(-((np.arange(num) - centre) ** 2) / (2 * self.config.sigma**2))
        return least + (1 - num * least) * bell

    def _least(self, num: int) -> float:
        least = self.config.p_min
        if least is None:
            return 2 / (num * (num + 1))
        if least * num > 1:
            raise ValueError(
                f"p_min {least:g} is too much for {num} levels; at most {1 / num:g}, or leave it out"
            )
        return least


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> E2H:
    """Make the bandit of a spec."""
    return E2H(arms, rng, config)
