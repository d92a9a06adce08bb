"""A fixed order of environments, one a stage, begun again when it ends.

Source: sequential domain training (arXiv 2512.20848 documents its regressions). It learns nothing; the
probability of a pick is 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
from pydantic import Field

from orchestrator.bandits.contracts import Bandit, ChooserConfig, Floats, StepFeedback

SOURCE = "baseline"


class Config(ChooserConfig):
    type: Literal["sequence"] = "sequence"
    order: list[str] = Field(min_length=1, description="Environments, one a stage; a name may appear often.")


class Sequence(Bandit):
    def __init__(self, arms: Iterable[str], rng: np.random.Generator, order: list[str]) -> None:
        super().__init__(arms, rng)
        self.order = order
        unknown = sorted(set(order) - set(self.arms))
        if unknown:
            raise ValueError(f"scheduler.order names {unknown}; the environments are {self.arms}")

    def preferences(self) -> Floats:
        start = self.clock % len(self.order)
        rest = [*self.order[start:], *self.order[:start], *self.arms]  # of those that were not retired, the next
        due = next(arm for arm in rest if arm in self.arms)
        return np.array([float(arm == due) for arm in self.arms])

    def observe(self, seen: StepFeedback) -> None:
        """Learn nothing, on purpose."""


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> Sequence:
    return Sequence(arms, rng, config.order)
