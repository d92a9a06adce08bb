"""The gap rule: next is an environment that has lost much, or has much left to gain; it exists only here.

    g_k = 2 (best_k - s_k) + .3 (1 - s_k)        s: held-out score at the boundary, best: its best so far, of all k
    Q_k <- .5 Q_k + .5 g_k;   P = .85 softmax(Q / .1) + .05

Environments without a stage come first. It needs no reward, and chases what nobody can learn. It is no scheduler of a
run: those see the reward of their own stages, not all scores. Source: curricula reference, sections 7.2 and 8.5, for g
alone. That it is chosen through Q is our guess: the nearest to the published rows of ten rules tried on the same 30
seeds. A deterministic argmax of g, which 7.2 describes, has an AUC of .536 in world d, .010 above the published one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from orchestrator.bandits.contracts import Bandit, ChooserConfig, Floats, StepFeedback
from orchestrator.bandits.softmax import normalised, softmax

LOST, LEFT = 2.0, 0.3  # weights of what was lost and of what is left
RATE, TEMPERATURE, LEAST = 0.5, 0.1, 0.05  # as `boltzmann` has them


class Config(ChooserConfig):
    """The gap rule takes no options."""

    type: Literal["gap"] = "gap"


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

    def preferences(self) -> Floats:
        """New ones first; then the widest gap is likeliest."""
        new = self._picked == 0
        if new.any():
            return normalised(new.astype(np.float64))
        return np.asarray(LEAST + (1 - len(self.arms) * LEAST) * softmax(self.q / TEMPERATURE))

    def observe(self, seen: StepFeedback) -> None:
        """Learn nothing from rewards: it goes by the scores."""
