"""Tasks no harder than the policy's competence, which grows with the root of time.

    c(t) = min(1, sqrt(t (1 - c0^2) / T + c0^2)), T = `steps`;  uniform below the quantile c of difficulty

Each of L levels stands for an equal part of all tasks in the order of difficulty: level i holds the quantiles from
i / L to (i + 1) / L, spread evenly, and weighs as much as of them lies below c. So the easiest level is open from the
first step and the next ones open gradually, faster at first.

Source: arXiv 1903.09848 (root form); c0 = .01 is not verified. Curricula reference, section 6.
It goes by time alone and learns nothing; a category above c is not picked (but by the floor).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import numpy as np
from pydantic import Field

from orchestrator.bandits.contracts import Floats
from orchestrator.bandits.difficulty_levels import LevelScheduleBandit, LevelScheduleConfig
from orchestrator.bandits.softmax import normalised

SOURCE = "arXiv 1903.09848"


class Config(LevelScheduleConfig):
    type: Literal["competence"] = "competence"
    c0: float = Field(0.01, gt=0, le=1, description="c at the first step, a quantile (not verified).")


class Competence(LevelScheduleBandit):
    config: Config

    def competence(self) -> float:
        """c(t), a quantile of difficulty."""
        c0 = self.config.c0**2
        return min(1.0, math.sqrt(self.progress * (1 - c0) + c0))

    def shares(self, num_rungs: int) -> Floats:
        return normalised(np.clip(self.competence() * num_rungs - np.arange(num_rungs), 0.0, 1.0))


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> Competence:
    return Competence(arms, rng, config)
