"""Self-Evolving Curriculum: Boltzmann choice over a constant-step estimate of each arm's mean |advantage|.

    P = softmax(Q / temperature), then the floor;   Q[k] <- (1 - a) Q[k] + a r[k] for every arm seen in the step

Source: arXiv 2505.14970, section 3 (TD(0) update and Boltzmann sampling), and its published code.
Reward: any number; the step averages an arm's groups before its one update.
An arm that was not picked keeps its Q (the paper; `unsampled: keep`) or is treated as having earned 0 (the
published code; `unsampled: decay`, which multiplies the estimate by how often the arm is visited).
An arm never seen has Q = `start`. A group without signal earns 0; a group that could not be scored, nothing.
It forgets with weight (1 - learning_rate)^n after n steps in which the arm was seen: half-life 1 step at .5.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
from pydantic import Field

from orchestrator.bandits.contracts import Bandit, BanditConfig
from orchestrator.bandits.softmax import softmax

SOURCE = "arXiv 2505.14970"


class Config(BanditConfig):
    """Options of SEC. Temperature .1 goes with the raw signal; .2 with the standardised one."""

    type: Literal["sec"] = "sec"
    learning_rate: float = Field(0.5, gt=0, le=1, description="Step size a of the estimate, per step.")
    temperature: float = Field(0.1, gt=0, description="Of the Boltzmann choice, in units of the signal.")
    floor: float = Field(0.2, ge=0, le=1, description="Total uniform mass F mixed in: P = (1 - F) P + F / K.")
    start: float = Field(0.0, ge=0, description="Q of an arm that was never seen.")
    unsampled: Literal["keep", "decay"] = Field(
        "keep", description="What happens to Q of an arm not picked in a step: kept, or moved toward 0."
    )


class Sec(Bandit):
    """SEC; see the module."""

    def __init__(self, arms: Iterable[str], rng: np.random.Generator, config: Config) -> None:
        super().__init__(arms, rng, config.floor)
        self.config = config
        self.q = dict.fromkeys(self.arms, config.start)

    def preferences(self) -> np.ndarray:
        """softmax(Q / temperature)."""
        return softmax(np.array([self.q[arm] for arm in self.arms]) / self.config.temperature)

    def observe(self, rewards: Mapping[str, float]) -> None:
        """Move Q toward the step's rewards."""
        a = self.config.learning_rate
        for arm in self.arms:
            if arm in rewards:
                self.q[arm] = (1 - a) * self.q[arm] + a * rewards[arm]
            elif self.config.unsampled == "decay":
                self.q[arm] = (1 - a) * self.q[arm]

    def values(self) -> dict[str, float | None]:
        """Q of every arm."""
        return {arm: self.q[arm] for arm in self.arms}

    def add(self, arm: str) -> None:
        """Add an arm with Q = start."""
        super().add(arm)
        self.q[arm] = self.config.start

    def retire(self, arm: str) -> None:
        """Forget an arm."""
        super().retire(arm)
        del self.q[arm]

    def state(self) -> dict[str, Any]:
        """Add Q."""
        return {**super().state(), "q": self.q}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        super().load_state(state)
        self.q = {arm: float(q) for arm, q in state["q"].items()}


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> Sec:
    """Make the bandit of a spec."""
    return Sec(arms, rng, config)
