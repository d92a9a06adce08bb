"""Levels of arms, and where on the way from the easiest to the hardest a run stands.

The level of an arm is a number, higher is harder: what the option `levels` says of it, else its parameter `level`, else
its place in the order in which the arms were given. Equal levels are one rung: L distinct levels are rungs 0 .. L - 1,
whatever their distances, and the arms of a rung share what it gets.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from orchestrator.bandits.contracts import ArmInfo, Bandit, BanditConfig, Floats, StepFeedback

FEATURE = "level"


class LevelConfig(BanditConfig):
    """What rules over ordered categories take."""

    levels: dict[str, float] = Field(
        default_factory=dict,
        description="Level of each category, higher is harder; the same number makes categories equal. One that is not "
        "named has its parameter `level`, or else its place in the order of the spec.",
    )


class LevelScheduleConfig(LevelConfig):
    """What rules that go by time take."""

    steps: int | None = Field(
        None,
        ge=1,
        description="Length of the schedule, in steps in which the bandit was asked; then it stays at its end. "
        "Default: the planned steps of the run; with stages, an equal share of them for each environment.",
    )


class LevelBandit(Bandit):
    """Knows the level of every arm (`level`, [K]). Arms that join have theirs, or come after the hardest."""

    level: Floats

    def __init__(self, arms: Iterable[str], rng: np.random.Generator, config: LevelConfig) -> None:
        given = list(arms)
        super().__init__(given, rng, config.floor)
        self._named: Mapping[str, float] = config.levels
        self._told: dict[str, float] = {}
        self.keep(level=0.0)
        for place, arm in enumerate(given):
            self.level[self._place[arm]] = place
        self._override()

    def introduce(self, about: Mapping[str, ArmInfo], num_steps: int | None = None) -> None:
        """Take the parameter `level` of the arms that have one; a mixture with places in an order is refused."""
        self._told = {
            arm: known.features[FEATURE] for arm, known in about.items() if FEATURE in known.features
        }
        bare = [arm for arm in self.arms if arm not in self._named and arm not in self._told]
        if self._told and bare:
            raise ValueError(
                f"{', '.join(bare)} has no level, while {', '.join(sorted(self._told))} has a parameter `level`; "
                "name the level of each under `levels`"
            )
        for arm, level in self._told.items():
            self._set(arm, level)
        self._override()

    def add(self, arm: str, about: ArmInfo | None = None) -> None:
        """Add an arm at its level."""
        hardest = float(self.level.max())
        super().add(arm, about)
        features = {} if about is None else about.features
        level = self._named.get(arm, features.get(FEATURE, self._told.get(arm, hardest + 1)))
        self._set(arm, level)

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state; what the options say of a level still holds."""
        super().load_state(state)
        self._override()

    def rungs(self) -> tuple[Floats, NDArray[np.intp]]:
        """The distinct levels, [L], ascending, and each arm's rung, [K]."""
        levels, rung = np.unique(self.level, return_inverse=True)
        return levels, rung

    def spread(self, shares: Floats, rung: NDArray[np.intp]) -> Floats:
        """Give the share of every rung, [L], in equal parts to its arms, [K]."""
        return np.asarray(shares[rung] / np.bincount(rung)[rung])

    def _override(self) -> None:
        for arm, level in self._named.items():
            self._set(arm, level)

    def _set(self, arm: str, level: float) -> None:
        if arm in self._place:
            self.level[self._place[arm]] = level


class LevelScheduleBandit(LevelBandit):
    """A rule of time and levels alone: a subclass gives every rung its share. It learns nothing."""

    def __init__(self, arms: Iterable[str], rng: np.random.Generator, config: LevelScheduleConfig) -> None:
        super().__init__(arms, rng, config)
        self._steps = self._asked = config.steps

    def introduce(self, about: Mapping[str, ArmInfo], num_steps: int | None = None) -> None:
        """Hear how long the run will be; the option `steps` goes before it. What cannot be followed is refused here."""
        super().introduce(about, num_steps)
        self._steps = self._asked or num_steps
        self.preferences()

    def preferences(self) -> Floats:
        """Shares of the rungs at this step, spread over the arms."""
        _, rung = self.rungs()
        return self.spread(self.shares(int(rung.max()) + 1), rung)

    @abstractmethod
    def shares(self, num_rungs: int) -> Floats:
        """Probability of each rung at this step, [L]."""

    def observe(self, seen: StepFeedback) -> None:
        """Learn nothing, on purpose."""

    @property
    def steps(self) -> int:
        """Length of the schedule, in steps."""
        if self._steps is None:
            raise ValueError(
                "the schedule has no length: give `steps`, or tell the bandit how many are planned"
            )
        return self._steps

    @property
    def progress(self) -> float:
        """u: share of the schedule that has passed, 1 at its end and after."""
        return min(1.0, self.clock / self.steps)

    def stage(self, num_stages: int) -> int:
        """Say which of so many equal stages it is: floor(u L), and L - 1 after the end."""
        return min(self.clock * num_stages // self.steps, num_stages - 1)
