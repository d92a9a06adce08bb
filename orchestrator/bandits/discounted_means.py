"""Discounted means of the arms' rewards, for rules that forget at a constant rate.

    every step:  N_k <- gamma N_k + n_k,  S_k <- gamma S_k + n_k r_k,  for all arms k

with n_k the arm's groups in the step (slots; 1 stage for a scheduler) and r_k their mean reward. Without observations
the mean S / N stays and its weight N fades. Late feedback is discounted by the age of its own step, so the order of
arrival changes nothing. Curricula reference, section 3.3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from orchestrator.bandits.contracts import Bandit, Floats, StepFeedback

UNSEEN = 1e-9  # a weight below it is no data


class DiscountedMeans(Bandit):
    """Keeps N (`weight`) and S (`total`) of every arm.

    `discount` is gamma, per step; `by_slot=False` counts an arm's step as one observation, however many groups it had.
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
        """S / N of every arm, [K]; NaN without data."""
        means = np.full(len(self.arms), np.nan)
        np.divide(self.total, self.weight, out=means, where=self.weight >= UNSEEN)
        return means

    def observe(self, seen: StepFeedback) -> None:
        elapsed = max(0, seen.step - self.now)
        self.now = max(self.now, seen.step)
        self.weight *= self.discount**elapsed
        self.total *= self.discount**elapsed
        count = seen.num_groups if self.by_slot else np.ones(len(seen.at))
        count = count * self.discount ** (self.now - seen.step)
        self.weight[seen.at] += count
        self.total[seen.at] += count * seen.reward

    def estimates(self) -> Floats:
        return self.means()

    def state(self) -> dict[str, Any]:
        return {**super().state(), "now": self.now}

    def load_state(self, state: Mapping[str, Any]) -> None:
        super().load_state(state)  # of 0.1 it has no `now`
        self.now = int(state.get("now", self.clock - 1))
