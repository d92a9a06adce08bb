"""Guards around the rule that picks the next stage's environment (curricula reference, sections 7.2 and 7.4).

In this order: an environment without a stage for `max_gap` stages is forced; environments that never had a stage come
first, drawn uniformly; otherwise the rule decides, and no probability is below `min_share`:

    P <- m + (1 - K m) P      m = min_share, K environments

Stages are few, so a scheduler learns on the stage's clock: one observation a stage.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from orchestrator.bandits.contracts import ArmInfo, Bandit, Floats, Pick, StepFeedback
from orchestrator.schedulers.rewards import StageRewardConfig


class GuardConfig(StageRewardConfig):
    """What every scheduler that learns takes."""

    usual_share: ClassVar[float] = 0.05  # the least share where none is given, if there is room for it

    min_share: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Least probability of every environment; null: .05, or half an equal share if that is less.",
    )
    max_gap: int = Field(0, ge=0, description="Stages without an environment until it is forced; 0: never.")
    clusters: dict[str, Annotated[list[str], Field(min_length=1)]] | None = Field(
        None,
        min_length=1,
        description="Groups of environments by name, each a list of their names or of patterns such as `math_*`; every "
        "environment in exactly one. First a cluster is picked, then an environment in it, both by this scheduler, and "
        "`min_share` is that of a cluster, and inside it of an environment. Null: all environments side by side.",
    )

    @model_validator(mode="after")
    def _gaps_are_of_environments(self) -> Self:
        if self.clusters is not None and self.max_gap:
            raise ValueError(
                "`max_gap` counts the stages without an environment, and with `clusters` none is picked among all: "
                "remove one of them; `min_share` holds at both levels"
            )
        return self


class GuardedScheduler(Bandit):
    """A rule behind the guards; it gives preferences and learns, but never picks."""

    saved = ("rule", "last")

    def __init__(self, arms: Iterable[str], rng: np.random.Generator, rule: Bandit, config: GuardConfig) -> None:
        super().__init__(arms, rng)
        self.rule, self.config = rule, config
        self.last = dict.fromkeys(self.arms, -1)  # the clock at each environment's last pick
        num_arms = len(self.arms)
        if self.min_share * num_arms > 1:
            raise ValueError(
                f"min_share {self.min_share:g} for each of {num_arms} environments is more than there is; "
                f"at most {1 / num_arms:.3g}"
            )
        if 0 < config.max_gap < num_arms:
            raise ValueError(
                f"max_gap {config.max_gap} would force {num_arms} environments in turn: say at least {num_arms}, 0 "
                "for never, or choose round_robin"
            )

    @property
    def min_share(self) -> float:
        """Least probability of every environment."""
        given = self.config.min_share
        return min(self.config.usual_share, 0.5 / len(self.arms)) if given is None else given

    def why(self) -> Literal["forced", "new", "chosen"]:
        """Which guard decides the next pick; `chosen`: none does."""
        if self._overdue() is not None:
            return "forced"
        return "chosen" if self._picked.all() else "new"

    def preferences(self) -> Floats:
        overdue = self._overdue()
        if overdue is not None:
            return np.array([float(arm == overdue) for arm in self.arms])
        new = self._picked == 0
        return np.asarray(new / new.sum()) if new.any() else self.shares()

    def shares(self) -> Floats:
        """What the rule prefers, none below the least share, [K]."""
        return np.asarray(self.min_share + (1 - len(self.arms) * self.min_share) * self.rule.preferences())

    def observe(self, seen: StepFeedback) -> None:
        self.rule.observe(seen)

    def estimates(self) -> Floats:
        return self.rule.estimates()

    def add(self, arm: str, about: ArmInfo | None = None) -> None:
        super().add(arm, about)
        self.rule.add(arm, about)
        self.last[arm] = self.clock - 1

    def retire(self, arm: str) -> None:
        super().retire(arm)
        self.rule.retire(arm)
        del self.last[arm]

    def _overdue(self) -> str | None:
        """The environment whose last stage is longest ago, if that is too long."""
        if not self.config.max_gap:
            return None
        longest = min(self.arms, key=lambda arm: self.last[arm])
        return longest if self.clock - self.last[longest] > self.config.max_gap else None

    def enter(self, places: NDArray[np.intp], probabilities: Floats) -> list[Pick]:
        self.last |= {self.arms[k]: self.clock for k in places}
        return super().enter(places, probabilities)
