"""Every level up to the current one, which rises in stages of equal length: earlier levels stay in the mixture.

    uniform over levels 0 .. min(floor(u L), L - 1) of L, u = t / `steps`; then the floor

Source: baseline; curricula reference, section 6. It goes by time alone and learns nothing; a category above the current
level is not picked (but by the floor). `levels` orders categories.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np

from orchestrator.bandits.contracts import Floats
from orchestrator.bandits.difficulty_levels import LevelScheduleBandit, LevelScheduleConfig

SOURCE = "baseline"


class Config(LevelScheduleConfig):
    type: Literal["cumulative"] = "cumulative"


class Cumulative(LevelScheduleBandit):
    def shares(self, num_rungs: int) -> Floats:
        num_open = self.stage(num_rungs) + 1
        return np.where(np.arange(num_rungs) < num_open, 1 / num_open, 0.0)


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> Cumulative:
    return Cumulative(arms, rng, config)
