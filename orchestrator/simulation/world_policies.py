"""Policies of simulated worlds only: they read what no run could tell them.

The oracle reads the skills of the world, so it bounds what a chooser can reach:

    v_i = 4 P_i (1 - P_i) (7 / 8) sum_k M_ik P_k (1 - P_k)      what a group of skill i teaches, all skills counted
    P = .9 softmax(v / .02) + .1 / 12 over the skills; never a trap

Greedy: it looks one step ahead. Source: curricula reference, section 8.2.

The gap rule: next is an environment that has lost much, or has much left to gain:

    g_k = 2 (best_k - s_k) + .3 (1 - s_k)        s: held-out score at the boundary, best: its best so far, of all k
    Q_k <- .5 Q_k + .5 g_k;   P = .85 softmax(Q / .1) + .05

Environments without a stage come first. It needs no reward, and chases what nobody can learn. It is no scheduler of a
run: those see the reward of their own stages, not all scores. Source: curricula reference, sections 7.2 and 8.5, for g
alone. That it is chosen through Q is our guess: the nearest to the published rows of ten rules tried on the same 30
seeds. A deterministic argmax of g, which 7.2 describes, has an AUC of .536 in world d, .010 above the published one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
from typing_extensions import override

from orchestrator.bandits.contracts import Bandit, ChooserConfig, Floats, StepFeedback
from orchestrator.bandits.softmax import normalised, softmax
from orchestrator.simulation.skills import NUM_SKILLS, Skills, arm_names

SHARPNESS = 0.02  # the oracle's temperature, in units of v
MIXED = 0.1  # its uniform mass over the skills
LOST, LEFT = 2.0, 0.3  # weights of what was lost and of what is left
RATE, TEMPERATURE, LEAST = 0.5, 0.1, 0.05  # as `boltzmann` has them


class OracleConfig(ChooserConfig):
    """The oracle takes no options."""

    type: Literal["oracle"] = "oracle"


class GapConfig(ChooserConfig):
    """The gap rule takes no options."""

    type: Literal["gap"] = "gap"


class Oracle(Bandit):
    """Chooses by what the world will learn."""

    def __init__(self, arms: Iterable[str], rng: np.random.Generator, world: Skills) -> None:
        super().__init__(arms, rng)
        self.world = world
        self._at = [self.arms.index(name) for name in arm_names()]

    @override
    def preferences(self) -> Floats:
        p = self.world.pass_rates()
        room = p * (1 - p)
        value = 4 * room * (7 / 8) * (self.world.transfer @ room)
        chances = np.zeros(len(self.arms))
        chances[self._at] = (1 - MIXED) * softmax(value / SHARPNESS) + MIXED / NUM_SKILLS
        return chances

    @override
    def observe(self, seen: StepFeedback) -> None:
        pass  # it knows


class Gap(Bandit):
    """Goes by the held-out scores that `see` tells it."""

    best: Floats
    q: Floats

    def __init__(self, arms: list[str], rng: np.random.Generator) -> None:
        super().__init__(arms, rng)
        self.keep(best=0.0, q=0.0)

    def see(self, scores: Mapping[str, float]) -> None:
        """Take in the held-out scores of a boundary."""
        score = np.array([scores[arm] for arm in self.arms])
        self.best = np.maximum(self.best, score)
        gap = LOST * (self.best - score) + LEFT * (1 - score)
        self.q = (1 - RATE) * self.q + RATE * gap

    @override
    def preferences(self) -> Floats:
        new = self._picked == 0
        if new.any():
            return normalised(new.astype(np.float64))
        return np.asarray(LEAST + (1 - len(self.arms) * LEAST) * softmax(self.q / TEMPERATURE))

    @override
    def observe(self, seen: StepFeedback) -> None:
        pass  # it goes by the scores
