"""Epsilon-greedy with recency: mostly the arm of the highest estimate, else any.

    P = (1 - epsilon) [k = argmax Q] / (arms that tie for it) + epsilon / K
    Q_k <- Q_k + alpha (r_k - Q_k) for every arm seen in the step

Source: Sutton and Barto, Reinforcement Learning, chapter 2 (constant step size); curricula reference, section 3.2.
Reward: any number; an arm's groups of a step are averaged before its one update.
An arm not picked keeps its Q. An arm never seen has Q = `start`; with a start above all rewards every arm is tried
before any is preferred. Weight (1 - alpha)^n after n steps in which the arm was seen: half-life ln .5 / ln(1 - alpha)
such steps, 1 at .5 and 6.6 at .1.
All slots of a batch share one best arm: hence an epsilon of .6, where one slot a step would want .1 (section 8.2, 8.4).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
from pydantic import Field

from orchestrator.bandits.contracts import Bandit, BanditConfig, Floats, StepFeedback
from orchestrator.bandits.softmax import normalised

SOURCE = "baseline"


class Config(BanditConfig):
    type: Literal["epsilon_greedy"] = "epsilon_greedy"
    learning_rate: float = Field(0.5, gt=0, le=1, description="Step size alpha of the estimate, per step.")
    epsilon: float = Field(0.6, ge=0, le=1, description="Share of slots for any arm, the best included.")
    start: float = Field(1.0, description="Q of an arm that was never seen.")


class EpsilonGreedy(Bandit):
    q: Floats

    def __init__(self, arms: Iterable[str], rng: np.random.Generator, config: Config) -> None:
        super().__init__(arms, rng, config.floor)
        self.config = config
        self.keep(q=config.start)

    def preferences(self) -> Floats:
        epsilon = self.config.epsilon
        best = normalised((self.q == self.q.max()).astype(np.float64))
        return np.asarray((1 - epsilon) * best + epsilon / len(self.arms))

    def observe(self, seen: StepFeedback) -> None:
        alpha = self.config.learning_rate
        self.q[seen.at] = (1 - alpha) * self.q[seen.at] + alpha * seen.reward

    def estimates(self) -> Floats:
        return self.q


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> EpsilonGreedy:
    return EpsilonGreedy(arms, rng, config)
