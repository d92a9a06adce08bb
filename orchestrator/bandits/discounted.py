"""Discounted means: what rules that forget at a constant rate know of their arms.

    every step:  N_k <- g N_k + [k seen],  S_k <- g S_k + r [k seen],  for all arms k

The mean S / N of an arm that is not seen stays; its weight N, and with it the certainty, fades. Curricula reference,
section 3.3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from orchestrator.bandits.contracts import Bandit

UNSEEN = 1e-9  # a weight below it is no data


class DiscountedMeans(Bandit):
    """Keeps N (`weight`) and S (`total`) of every arm; a rule adds `preferences`."""

    def __init__(
        self, arms: Iterable[str], rng: np.random.Generator, discount: float, floor: float = 0.0
    ) -> None:
        super().__init__(arms, rng, floor)
        self.discount = discount
        self.weight = dict.fromkeys(self.arms, 0.0)
        self.total = dict.fromkeys(self.arms, 0.0)

    def mean(self, arm: str) -> float | None:
        """Discounted mean of an arm; None without data."""
        return None if self.weight[arm] < UNSEEN else self.total[arm] / self.weight[arm]

    def observe(self, rewards: Mapping[str, float]) -> None:
        """Discount everything, then count what was seen."""
        for arm in self.arms:
            seen = arm in rewards
            self.weight[arm] = self.discount * self.weight[arm] + seen
            self.total[arm] = self.discount * self.total[arm] + rewards.get(arm, 0.0)

    def values(self) -> dict[str, float | None]:
        """Discounted mean of every arm."""
        return {arm: self.mean(arm) for arm in self.arms}

    def add(self, arm: str) -> None:
        """Add an arm without data."""
        super().add(arm)
        self.weight[arm] = self.total[arm] = 0.0

    def retire(self, arm: str) -> None:
        """Forget an arm."""
        super().retire(arm)
        del self.weight[arm], self.total[arm]

    def state(self) -> dict[str, Any]:
        """Add N and S."""
        return {**super().state(), "weight": self.weight, "total": self.total}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        super().load_state(state)
        self.weight = {arm: float(state["weight"][arm]) for arm in self.arms}
        self.total = {arm: float(state["total"][arm]) for arm in self.arms}
