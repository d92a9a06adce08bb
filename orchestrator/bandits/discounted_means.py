"""Discounted means: what rules that forget at a constant rate know of their arms.

    every step:  N_k <- g N_k + n_k,  S_k <- g S_k + n_k r_k,  for all arms k

with n_k the groups that arm k had in the step (slots; for a scheduler a stage counts 1) and r_k their mean reward. The
mean S / N of an arm that is not seen stays; its weight N, and with it the certainty, fades. Feedback that comes late is
added with the age of its own step, so the order in which feedback arrives changes nothing. Curricula reference, 3.3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from orchestrator.bandits.contracts import Bandit, Floats, StepFeedback

UNSEEN = 1e-9  # a weight below it is no data


class DiscountedMeans(Bandit):
    """Keeps N (`weight`) and S (`total`) of every arm; a rule adds `preferences`.

    Args:
        discount: g, per step; 1 never forgets.
        by_slot: whether a step counts for as many observations as it had groups, or for one an arm.
    """

    weight: Floats
    total: Floats

    def __init__(
        self,
        arms: Iterable[str],
        rng: np.random.Generator,
        discount: float,
        floor: float = 0.0,
        *,
        by_slot: bool = True,
    ) -> None:
        super().__init__(arms, rng, floor)
        self.discount, self.by_slot = discount, by_slot
        self.now = -1  # the latest step learned from
        self.keep(weight=0.0, total=0.0)

    def means(self) -> Floats:
        """Discounted mean of every arm, [K]; NaN without data."""
        means = np.full(len(self.arms), np.nan)
        np.divide(self.total, self.weight, out=means, where=self.weight >= UNSEEN)
        return means

    def observe(self, seen: StepFeedback) -> None:
        """Discount everything for the steps since the last one learned from, then count what was seen."""
        elapsed = max(0, seen.step - self.now)
        self.now = max(self.now, seen.step)
        self.weight *= self.discount**elapsed
        self.total *= self.discount**elapsed
        count = seen.num_groups if self.by_slot else np.ones(len(seen.at))
        count = count * self.discount ** (self.now - seen.step)
        self.weight[seen.at] += count
        self.total[seen.at] += count * seen.reward

    def values(self) -> dict[str, float | None]:
        """Discounted mean of every arm."""
        return {arm: None if np.isnan(m) else m for arm, m in self.by_arm(self.means()).items()}

    def state(self) -> dict[str, Any]:
        """Add the clock of the discount; N and S are there already."""
        return {**super().state(), "now": self.now}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state; one of an earlier version had learned every step."""
        super().load_state(state)
        self.now = int(state.get("now", self.clock - 1))
