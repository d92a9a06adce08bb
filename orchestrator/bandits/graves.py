"""Automated curriculum learning: exponential weights that share, on rewards rescaled by their own history.

    P = (1 - g) softmax(L) + g / K;   x_k = sum over the arm's slots in the step of r / P_k
    L_k <- ln[(1 - a) exp(L_k + rate x_k) + a / (K - 1) sum over i != k of exp(L_i + rate x_i)],  a = 1 / t at step t

Source: Graves, Bellemare, Menick, Munos, Kavukcuoglu, arXiv 1704.03003 (there one slot a step, and a signal of learning
progress as reward); curricula reference, section 3.6. Exploration .05; the rate of 1e-3 is not verified.
Reward: any number; each group's is mapped to [-1, 1] between the 20 and 80 % quantiles of the last thousand (`scaling`)
and is 0 while all were the same.
An arm that was not picked keeps its L, but for what is shared; one never seen begins level with the likeliest. It
forgets by sharing alone, ever less: after t steps an arm's lead is at most ln(t (K - 1)). One arm alone shares nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from pydantic import Field

from orchestrator.bandits.contracts import Bandit, BanditConfig, Feedback, Floats, StepFeedback
from orchestrator.bandits.signal import QuantileScale
from orchestrator.bandits.softmax import softmax

SOURCE = "arXiv 1704.03003"

LEAST = 1e-300  # of a weight, the largest being about 1: its logarithm stays finite


class Config(BanditConfig):
    """Options of the rule."""

    type: Literal["graves"] = "graves"
    exploration: float = Field(0.05, ge=0, le=1, description="Total uniform mass g of the rule itself.")
    rate: float = Field(0.001, gt=0, description="Learning rate, per slot (the paper's value not verified).")


class Graves(Bandit):
    """The rule; see the module."""

    log_weight: Floats

    def __init__(self, arms: Iterable[str], rng: np.random.Generator, config: Config) -> None:
        super().__init__(arms, rng, config.floor)
        self.config = config
        self.num_steps = 0  # learned from
        self.rewards = QuantileScale()
        self.keep(log_weight=0.0)

    def preferences(self) -> Floats:
        """(1 - g) softmax(L) + g / K."""
        g = self.config.exploration
        mixed: Floats = (1 - g) * softmax(self.log_weight) + g / len(self.arms)
        return mixed

    def observe(self, seen: StepFeedback) -> None:
        """Move the log-weights of what was seen, and share; rewards are in [-1, 1] by now."""
        self.num_steps += 1
        moved = self.log_weight.copy()
        moved[seen.at] += self.config.rate * seen.importance
        if len(moved) > 1:
            moved = _shared(moved - moved.max(), 1 / self.num_steps)
        self.log_weight = moved - moved.max()

    def state(self) -> dict[str, Any]:
        """Add the steps and the history of the rewards."""
        return {**super().state(), "num_steps": self.num_steps, "rewards": self.rewards.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        super().load_state(state)
        self.num_steps = state["num_steps"]
        self.rewards.load_state(state["rewards"])

    def _seen(self, step: int, feedback: Sequence[Feedback]) -> StepFeedback:
        """Gather the feedback of one step by arm, every group's reward rescaled."""
        rewards = np.array([item.reward for item in feedback])
        self.rewards.add(rewards)
        scaled = 2 * self.rewards.scale(rewards) - 1 if self.rewards.is_known else np.zeros(len(rewards))
        return super()._seen(
            step, [replace(item, reward=r) for item, r in zip(feedback, scaled.tolist(), strict=True)]
        )


def _shared(log_weight: Floats, share: float) -> Floats:
    """Give each of K > 1 arms (1 - share) of its weight and share / (K - 1) of the others'; the highest entry is 0."""
    weight = np.exp(log_weight)
    others = weight.sum() - weight
    top = int(weight.argmax())
    others[top] = np.delete(weight, top).sum()  # the difference would be all rounding where one arm dominates
    mixed = (1 - share) * weight + share / (len(weight) - 1) * others
    return np.asarray(np.log(np.maximum(mixed, LEAST)))


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> Graves:
    """Make the bandit of a spec."""
    return Graves(arms, rng, config)
