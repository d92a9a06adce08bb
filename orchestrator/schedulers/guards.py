"""The guards around whatever chooses the next stage's environment (curricula reference, sections 7.2 and 7.4).

In this order: an environment not visited for `max_gap` stages is forced; environments that never had a stage come
first, drawn uniformly; otherwise the rule decides, and nobody's probability is below `min_share`:

    P <- m + (1 - K m) P      m = min_share, K environments

Stages are few, so a scheduler learns on the stage's clock: one observation a stage.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from orchestrator.bandits.contracts import ArmInfo, Bandit, Floats, Pick, StepFeedback
from orchestrator.schedulers.rewards import StageRewardConfig


class GuardConfig(StageRewardConfig):
    """What every scheduler that learns takes."""

    min_share: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Least probability of every environment; default .05, or half an equal share if that is less.",
    )
    max_gap: int = Field(
        0, ge=0, description="An environment not visited for so many stages is next; 0: never forced."
    )


class GuardedScheduler(Bandit):
    """A rule behind the guards. The rule's preferences and learning are used, never its own picks."""

    def __init__(
        self, arms: Iterable[str], rng: np.random.Generator, rule: Bandit, config: GuardConfig
    ) -> None:
        super().__init__(arms, rng)
        self.rule, self.config = rule, config
        self._last = dict.fromkeys(self.arms, -1)  # the clock at an environment's last pick
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
        """Least probability of every environment, of as many as there are now."""
        given = self.config.min_share
        return min(0.05, 0.5 / len(self.arms)) if given is None else given

    def why(self) -> Literal["forced", "new", "chosen"]:
        """Which guard decides the next pick; `chosen`: none does."""
        if self._overdue() is not None:
            return "forced"
        return "chosen" if self._picked.all() else "new"

    def preferences(self) -> Floats:
        """The rule's probabilities, after the guards."""
        overdue = self._overdue()
        if overdue is not None:
            return np.array([float(arm == overdue) for arm in self.arms])
        new = self._picked == 0
        if new.any():
            return np.asarray(new / new.sum())
        return np.asarray(self.min_share + (1 - len(self.arms) * self.min_share) * self.rule.preferences())

    def observe(self, seen: StepFeedback) -> None:
        """Teach the rule."""
        self.rule.observe(seen)

    def values(self) -> dict[str, float | None]:
        """The rule's estimates."""
        return self.rule.values()

    def add(self, arm: str, about: ArmInfo | None = None) -> None:
        """Add an environment: it is new, so its turn comes soon."""
        super().add(arm, about)
        self.rule.add(arm, about)
        self._last[arm] = self.clock - 1

    def retire(self, arm: str) -> None:
        """Take an environment out."""
        super().retire(arm)
        self.rule.retire(arm)
        del self._last[arm]

    def state(self) -> dict[str, Any]:
        """Add the rule's state and when every environment was last picked."""
        return {**super().state(), "rule": self.rule.state(), "last": self._last}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        super().load_state(state)
        self.rule.load_state(state["rule"])
        self._last = {arm: int(clock) for arm, clock in state["last"].items()}

    def _overdue(self) -> str | None:
        """Find the environment whose last visit is longest ago, if that is too long."""
        if not self.config.max_gap:
            return None
        longest = min(self.arms, key=lambda arm: self._last[arm])
        return longest if self.clock - self._last[longest] > self.config.max_gap else None

    def enter(self, places: NDArray[np.intp], probabilities: Floats) -> list[Pick]:
        """Note when whom."""
        self._last |= {self.arms[k]: self.clock for k in places}
        return super().enter(places, probabilities)
