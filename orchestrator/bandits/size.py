"""Categories by how many tasks they have: proportional to size, uniform, or between.

    P ~ N^power:  power 1 is one shuffled pool of all tasks, 0 is uniform over categories, .5 the usual compromise

Source: baseline; curricula reference, section 6. Power 1 is what is called random in the code of arXiv 2505.14970.
It learns nothing; an unseen category is like any other of its size. An endless one needs a number under `sizes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveFloat

from orchestrator.bandits.contracts import ArmInfo, Bandit, BanditConfig, Floats, StepFeedback
from orchestrator.bandits.softmax import softmax

SOURCE = "baseline"

UNKNOWN = 0.0


class Config(BanditConfig):
    type: Literal["size"] = "size"
    by_arm: ClassVar[tuple[str, ...]] = ("sizes",)
    power: float = Field(0.5, ge=0, le=1, description="P ~ N^power: 1 proportional to size, 0 uniform.")
    sizes: dict[str, PositiveFloat] = Field(
        default_factory=dict,
        description="Number of tasks to count with, by category: where tasks never end, or instead of its own.",
    )


class Size(Bandit):
    size: Floats

    def __init__(self, arms: Iterable[str], rng: np.random.Generator, config: Config) -> None:
        super().__init__(arms, rng, config.floor)
        self.config = config
        self._introduced: dict[str, float] = {}
        self.keep(size=UNKNOWN)
        self.assign(self.size, config.sizes)

    def introduce(self, about: Mapping[str, ArmInfo], num_steps: int | None = None) -> None:
        """Take the sizes of the arms; ValueError where one is not known."""
        self._introduced = {arm: known.size or UNKNOWN for arm, known in about.items()}
        self.assign(self.size, dict.fromkeys(self.arms, UNKNOWN) | self._introduced | self.config.sizes)
        self._known()

    def preferences(self) -> Floats:
        return softmax(self.config.power * np.log(self._known()))

    def observe(self, seen: StepFeedback) -> None:
        """Learn nothing, on purpose."""

    def add(self, arm: str, about: ArmInfo | None = None) -> None:
        """Add an arm with its size; ValueError where it is not known."""
        size = (self._introduced.get(arm) if about is None else about.size) or UNKNOWN
        if not size and arm not in self.config.sizes:
            raise ValueError(_refusal([arm]))
        super().add(arm, about)
        self.assign(self.size, {arm: size} | self.config.sizes)

    def load_state(self, state: Mapping[str, Any]) -> None:
        super().load_state(state)
        known = {arm: size for arm, size in self._introduced.items() if size}
        self.assign(self.size, known | self.config.sizes)  # a fork's spec may name others

    def _known(self) -> Floats:
        if not self.size.all():
            raise ValueError(_refusal([arm for arm, size in self.by_arm(self.size).items() if not size]))
        return self.size


def _refusal(arms: Sequence[str]) -> str:
    return (
        f"no size is known of {', '.join(arms)} (tasks that never end have none); give a number to reckon with under "
        "`sizes`, or take another bandit"
    )


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> Size:
    return Size(arms, rng, config)
