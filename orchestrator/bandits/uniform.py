"""Uniform choice over the arms: the baseline that every bandit must beat.

Source: the baselines of arXiv 2505.14970. It learns nothing; an unseen arm is like any other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np

from orchestrator.bandits.contracts import Bandit, BanditConfig, Floats, StepFeedback

SOURCE = "baseline"


class Config(BanditConfig):
    type: Literal["uniform"] = "uniform"


class Uniform(Bandit):
    def preferences(self) -> Floats:
        return np.full(len(self.arms), 1 / len(self.arms))

    def observe(self, seen: StepFeedback) -> None:
        """Learn nothing, on purpose."""


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> Uniform:
    return Uniform(arms, rng, config.floor)
