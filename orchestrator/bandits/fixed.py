"""Constant weights: the fixed mixture that most training systems use.

Source: the fixed mixtures of prime-rl, NeMo-RL and tinker-cookbook. It learns nothing; an arm without a weight (or
added later) has the weight `others`. Arms that are left without a weight (the others are in quarantine) are alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from orchestrator.bandits.contracts import Bandit, BanditConfig, Floats, StepFeedback
from orchestrator.bandits.softmax import normalised

SOURCE = "baseline"


class Config(BanditConfig):
    type: Literal["fixed"] = "fixed"
    by_arm: ClassVar[tuple[str, ...]] = ("weights",)
    weights: dict[str, float] = Field(default_factory=dict, description="Weight of each arm, at least 0.")
    others: float = Field(1.0, ge=0, description="Weight of an arm that `weights` does not name.")


class Fixed(Bandit):
    _weights: Floats | None  # of all arms, as long as they stay the same

    def __init__(self, arms: Iterable[str], rng: np.random.Generator, config: Config) -> None:
        super().__init__(arms, rng, config.floor)
        self.config = config
        weights = self.weights()
        if (weights < 0).any() or weights.sum() <= 0:
            raise ValueError(f"bandit.weights must be at least 0 and not all 0 over the arms {self.arms}")

    def weights(self) -> Floats:
        """Weight of every arm, [K]."""
        if self._weights is None:
            self._weights = np.array([self.config.weights.get(arm, self.config.others) for arm in self.arms])
        return self._weights

    def preferences(self) -> Floats:
        weights = self.weights()
        return normalised(weights if weights.any() else np.ones(len(weights)))  # the arms with a weight may be retired

    def observe(self, seen: StepFeedback) -> None:
        """Learn nothing, on purpose."""

    def _set_arms(self, arms: list[str]) -> None:
        super()._set_arms(arms)
        self._weights = None


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> Fixed:
    return Fixed(arms, rng, config)
