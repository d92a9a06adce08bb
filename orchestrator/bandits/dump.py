"""DUMP: Boltzmann choice over an upper confidence bound of each arm's recent mean |advantage|.

    U_k = mean of the last `window` slots of k + sqrt(2 ln(N + 1) / (n_k + 1)),  P = softmax(U / temperature)

with n_k the slots of arm k so far and N their sum.
Source: arXiv 2504.09710, the method as published; curricula reference, section 4.1. The released code updates at
validations only, from the validation reward in place of the advantage.
Reward: in [0, 1]; every slot of a step enters the window with the mean reward of its arm in that step.
An arm never seen has mean 0 and the largest bonus; one that is not picked keeps its mean while its bonus grows with
ln N. It forgets a slot after `window` more of the same arm. Counts are never discounted, so exploration fades: in long
runs `discounted_ucb` keeps it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
from pydantic import Field

from orchestrator.bandits.contracts import ArmInfo, Bandit, BanditConfig, Floats, StepFeedback
from orchestrator.bandits.softmax import softmax

SOURCE = "arXiv 2504.09710"


class Config(BanditConfig):
    """Options of DUMP."""

    type: Literal["dump"] = "dump"
    window: int = Field(300, ge=1, description="Slots of an arm that its mean is of: the last so many.")
    temperature: float = Field(0.1, gt=0, description="Of the Boltzmann choice, in units of the signal.")


class Dump(Bandit):
    """The rule; see the module."""

    mean: Floats
    count: Floats

    def __init__(self, arms: Iterable[str], rng: np.random.Generator, config: Config) -> None:
        super().__init__(arms, rng, config.floor)
        self.config = config
        self.keep(mean=0.0, count=0.0)
        # A ring for each arm; its slot number n is at n % window.
        self._window = np.zeros((len(self.arms), config.window))

    def bounds(self) -> Floats:
        """U of every arm, [K]."""
        bonus = np.sqrt(2 * np.log(self.count.sum() + 1) / (self.count + 1))
        bounds: Floats = self.mean + bonus
        return bounds

    def preferences(self) -> Floats:
        """softmax(U / temperature)."""
        return softmax(self.bounds() / self.config.temperature)

    def observe(self, seen: StepFeedback) -> None:
        """Let the step's slots into the windows."""
        self._enter_window(seen)
        self.count[seen.at] += seen.num_groups
        filled = np.minimum(self.count[seen.at], self.config.window)
        self.mean[seen.at] = self._window[seen.at].sum(axis=1) / filled

    def values(self) -> dict[str, float | None]:
        """Mean of each arm's window; None before its first slot."""
        return {
            arm: mean if count else None
            for arm, mean, count in zip(self.arms, self.mean.tolist(), self.count.tolist(), strict=True)
        }

    def add(self, arm: str, about: ArmInfo | None = None) -> None:
        """Add an arm with an empty window."""
        super().add(arm, about)
        self._window = np.insert(self._window, self._place[arm], 0.0, axis=0)

    def retire(self, arm: str) -> None:
        """Take an arm and its window out."""
        at = self._place[arm]
        super().retire(arm)
        self._window = np.delete(self._window, at, axis=0)

    def state(self) -> dict[str, Any]:
        """Add the windows."""
        filled = np.minimum(self.count, self.config.window).astype(int).tolist()
        rows = zip(self.arms, self._window, filled, strict=True)
        return {**super().state(), "window": {arm: row[:n].tolist() for arm, row, n in rows}}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        super().load_state(state)
        self._window = np.zeros((len(self.arms), self.config.window))
        for row, arm in zip(self._window, self.arms, strict=True):
            row[: len(state["window"][arm])] = state["window"][arm]

    def _enter_window(self, seen: StepFeedback) -> None:
        """Write each arm's mean reward as often as it had groups, over its oldest slots."""
        num = np.minimum(seen.num_groups, self.config.window).astype(int)
        rows, first = np.repeat(seen.at, num), np.repeat(np.cumsum(num) - num, num)
        slots = self.count[rows].astype(int) + np.arange(len(rows)) - first
        self._window[rows, slots % self.config.window] = np.repeat(seen.reward, num)


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> Dump:
    """Make the bandit of a spec."""
    return Dump(arms, rng, config)
