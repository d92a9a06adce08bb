"""From the easiest level to the hardest in stages of equal length: the hand-made curriculum.

    level min(floor(u L), L - 1) of L, u = t / `steps`; with `hardest_first` the other way round; then the floor

The floor is the mix of "easy to hard + mix": P = (1 - F) stage + F uniform over all categories.

Source: baseline; curricula reference, section 6. It goes by time alone and learns nothing; a category is picked only in
the stage of its level (and by the floor). `levels` orders categories.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
from pydantic import Field

from orchestrator.bandits.contracts import Floats
from orchestrator.bandits.difficulty_levels import LevelScheduleBandit, LevelScheduleConfig

SOURCE = "baseline"


class Config(LevelScheduleConfig):
    type: Literal["easy_to_hard"] = "easy_to_hard"
    hardest_first: bool = Field(False, description="Begin with the hardest level and end with the easiest.")


class EasyToHard(LevelScheduleBandit):
    config: Config

    def shares(self, num_rungs: int) -> Floats:
        stage = self.stage(num_rungs)
        rung = num_rungs - 1 - stage if self.config.hardest_first else stage
        return np.where(np.arange(num_rungs) == rung, 1.0, 0.0)


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> EasyToHard:
    return EasyToHard(arms, rng, config)
