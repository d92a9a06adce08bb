"""The oracle: it reads the skills of the world, so it bounds what a chooser can reach; it exists only here.

    v_i = 4 P_i (1 - P_i) (7 / 8) sum_k M_ik P_k (1 - P_k)      what a group of skill i teaches, all skills counted
    P = .9 softmax(v / .02) + .1 / 12 over the skills; never a trap

Greedy: it looks one step ahead. Source: curricula reference, section 8.2.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np

from orchestrator.bandits.contracts import Bandit, ChooserConfig, Floats, StepFeedback
from orchestrator.bandits.softmax import softmax
from orchestrator.simulation.skills import NUM_SKILLS, Skills, arm_names

SHARPNESS = 0.02  # temperature, in units of v
MIXED = 0.1  # uniform mass over the skills


class Config(ChooserConfig):
    """The oracle takes no options."""

    type: Literal["oracle"] = "oracle"


class Oracle(Bandit):
    """Chooses by what the world will learn; see the module."""

    def __init__(self, arms: Iterable[str], rng: np.random.Generator, world: Skills) -> None:
        super().__init__(arms, rng)
        self.world = world
        self._at = [self.arms.index(name) for name in arm_names()]

    def preferences(self) -> Floats:
        """The probabilities of the skills; 0 for what is none."""
        p = self.world.pass_rates()
        room = p * (1 - p)
        value = 4 * room * (7 / 8) * (self.world.transfer @ room)
        chances = np.zeros(len(self.arms))
        chances[self._at] = (1 - MIXED) * softmax(value / SHARPNESS) + MIXED / NUM_SKILLS
        return chances

    def observe(self, seen: StepFeedback) -> None:
        """Learn nothing: it knows."""
