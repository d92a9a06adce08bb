"""Automated curriculum learning: exponential weights that share, on rewards rescaled by their own history.

    P = (1 - epsilon) softmax(w) + epsilon / K;   x_k = sum over the arm's slots in the step of r / P_k
    w_k <- ln[(1 - alpha_t) exp(w_k + eta x_k) + alpha_t / (K - 1) sum over j != k of exp(w_j + eta x_j)]

with epsilon = `exploration`, eta = `rate`, and alpha_t = 1 / t at step t. Source: Graves, Bellemare, Menick, Munos,
Kavukcuoglu, arXiv 1704.03003 (there one slot a step, and a signal of learning progress as reward); curricula
reference, section 3.6. epsilon = .05; eta = 1e-3 is not verified.
Reward: any number; each group's is mapped to [-1, 1] between the 20 and 80 % quantiles of the last thousand
(`signal.QuantileScale`) and is 0 while all were the same.
An arm not picked keeps its w, but for what is shared; one never seen begins level with the likeliest. It forgets by
sharing alone, ever less: after t steps an arm's lead is at most ln(t (K - 1)). One arm alone shares nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import Field

from orchestrator.bandits.contracts import BanditConfig, Feedback, Floats, StepFeedback
from orchestrator.bandits.exp3 import ExponentialWeights
from orchestrator.bandits.signal import QuantileScale

SOURCE = "arXiv 1704.03003"

LEAST = 1e-300  # of a weight, the largest being about 1: its logarithm stays finite


class Config(BanditConfig):
    type: Literal["graves"] = "graves"
    exploration: float = Field(0.05, ge=0, le=1, description="Total uniform mass epsilon of the rule itself.")
    rate: float = Field(0.001, gt=0, description="Learning rate, per slot (the paper's value not verified).")


class Graves(ExponentialWeights):
    saved = ("num_steps", "rewards")

    def __init__(self, arms: Iterable[str], rng: np.random.Generator, config: Config) -> None:
        super().__init__(arms, rng, config.floor, config.exploration)
        self.config = config
        self.num_steps = 0  # learned from
        self.rewards = QuantileScale()

    def observe(self, seen: StepFeedback) -> None:
        self.num_steps += 1
        moved = self.log_weight.copy()
        moved[seen.at] += self.config.rate * seen.importance  # of rewards in [-1, 1]: `_seen`
        if len(moved) > 1:
            moved = _shared(moved - moved.max(), 1 / self.num_steps)
        self.set_weights(moved)

    def _seen(self, step: int, feedback: Sequence[Feedback]) -> StepFeedback:
        rewards = np.array([item.reward for item in feedback])
        self.rewards.add(rewards)
        scaled = 2 * self.rewards.scale(rewards) - 1 if self.rewards.is_known else np.zeros(len(rewards))
        return super()._seen(step, [replace(item, reward=r) for item, r in zip(feedback, scaled.tolist(), strict=True)])


def _shared(log_weight: Floats, share: float) -> Floats:
    """Log-weights of K > 1 arms, with (1 - share) of the own weight and share / (K - 1) of the others'; largest 0."""
    weight = np.exp(log_weight)
    others = weight.sum() - weight
    top = int(weight.argmax())
    others[top] = np.delete(weight, top).sum()  # the difference is all rounding where one arm dominates
    mixed = (1 - share) * weight + share / (len(weight) - 1) * others
    return np.asarray(np.log(np.maximum(mixed, LEAST)))


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> Graves:
    return Graves(arms, rng, config)
