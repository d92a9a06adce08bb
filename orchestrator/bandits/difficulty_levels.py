"""Levels of arms, and schedules from the easiest to the hardest.

The level of an arm is a number, higher is harder: as the option `levels` says, else its parameter `level`, else its
place in the order of the spec. Equal levels are one rung: L distinct levels are rungs 0 .. L - 1, whatever their
distances, and the arms of a rung share its probability.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from orchestrator.bandits.contracts import ArmInfo, Bandit, BanditConfig, Floats, StepFeedback

FEATURE = "level"


class LevelConfig(BanditConfig):
    """Options of rules over ordered categories."""

    by_arm: ClassVar[tuple[str, ...]] = ("levels",)
    levels: dict[str, float] = Field(
        default_factory=dict,
        description="Level of each category, higher is harder; the same number makes categories equal. One that is not "
        "named has its parameter `level`, or else its place in the order of the spec.",
    )


class LevelScheduleConfig(LevelConfig):
    """Options of rules that go by time."""

    steps: int | None = Field(
        None,
        ge=1,
        description="Length of the schedule, in steps; with stages, in those of the environment's own, not in others' "
        "that replay it. Then it stays at its end. Null: the planned steps of the run; with stages, an equal "
        "share of them for each environment.",
    )


class LevelBandit(Bandit):
    """Keeps the level of every arm, [K]. One that comes back has the level it had, a new one without comes last."""

    level: Floats
    config: Any  # of the rule

    def __init__(self, arms: Iterable[str], rng: np.random.Generator, config: LevelConfig) -> None:
        given = list(arms)
        super().__init__(given, rng, config.floor)
        self.config = config
        self._by_option = config.levels
        self._by_feature: dict[str, float] = {}
        self._retired: dict[str, float] = {}  # levels of arms that may come back
        self.keep(level=0.0)
        self.assign(self.level, {arm: place for place, arm in enumerate(given)} | self._by_option)

    def introduce(self, about: Mapping[str, ArmInfo], num_steps: int | None = None) -> None:
        """Take the parameter `level` of the arms; ValueError where some have a level and others none."""
        self._by_feature = {arm: known.features[FEATURE] for arm, known in about.items() if FEATURE in known.features}
        if self._by_feature and self.placed:
            raise ValueError(
                f"{', '.join(self.placed)} has no level, while {', '.join(sorted(self._by_feature))} has a parameter "
                "`level`; name the level of each under `levels`"
            )
        self.assign(self.level, self._by_feature | self._by_option)

    @property
    def placed(self) -> list[str]:
        """The arms whose level nothing says but their place, the easiest first."""
        bare = {*self.arms} - {*self._by_option} - {*self._by_feature}
        return sorted(bare, key=self.by_arm(self.level).__getitem__)

    def add(self, arm: str, about: ArmInfo | None = None) -> None:
        last = max([float(self.level.max()), *self._retired.values()]) + 1
        super().add(arm, about)
        features = {} if about is None else about.features
        before = self._retired.pop(arm, last)
        level = features.get(FEATURE, self._by_feature.get(arm, before))
        self.assign(self.level, {arm: level} | self._by_option)

    def retire(self, arm: str) -> None:
        level = float(self.level[self._place[arm]])
        super().retire(arm)
        self._retired[arm] = level

    def state(self) -> dict[str, Any]:
        return {**super().state(), "retired": dict(self._retired), "by_option": dict(self._by_option)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        without = self.by_arm(self.level)  # as a fork finds them whose spec names fewer levels
        super().load_state(state)
        self._retired = dict(state.get("retired", {}))
        unnamed = {arm: without[arm] for arm in state.get("by_option", ()) if arm in without}
        self._retired |= {arm: level for arm, level in unnamed.items() if arm in self._retired}
        self.assign(self.level, unnamed | self._by_option)

    def rungs(self) -> tuple[Floats, NDArray[np.intp]]:
        """The distinct levels, [L], ascending, and each arm's rung, [K]."""
        levels, rung = np.unique(self.level, return_inverse=True)
        return levels, rung

    def spread(self, shares: Floats, rung: NDArray[np.intp]) -> Floats:
        """Divide the share of every rung, [L], equally among its arms, [K]."""
        return np.asarray(shares[rung] / np.bincount(rung)[rung])


class LevelScheduleBandit(LevelBandit):
    """A rule of time and levels alone: a subclass gives the share of every rung. It learns nothing."""

    def __init__(self, arms: Iterable[str], rng: np.random.Generator, config: LevelScheduleConfig) -> None:
        super().__init__(arms, rng, config)
        self._steps = self._by_spec = config.steps

    def introduce(self, about: Mapping[str, ArmInfo], num_steps: int | None = None) -> None:
        """Take the length of the run unless `steps` is set; ValueError where the schedule cannot be followed."""
        super().introduce(about, num_steps)
        self._steps = self._by_spec or num_steps
        self.preferences()

    def preferences(self) -> Floats:
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
            raise ValueError("the schedule has no length: give `steps`, or tell the bandit how many are planned")
        return self._steps

    @property
    def progress(self) -> float:
        """u = t / `steps`, 1 after the end."""
        return min(1.0, self._now / self.steps)

    def stage(self, num_stages: int) -> int:
        """Number of the present stage of L equal ones: floor(u L), and L - 1 after the end."""
        return min(self._now * num_stages // self.steps, num_stages - 1)

    @property
    def _now(self) -> int:
        """Steps so far; those in which it was replayed, beside the stage of another environment, do not count."""
        return self.clock - self.num_replays
