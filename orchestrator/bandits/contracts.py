"""What a bandit is: pick, learn, probabilities, and a state that survives JSON.

A bandit chooses among named arms that change while the policy learns. The conductor asks for picks, plays them,
and gives one feedback a pick, possibly late or twice. Numpy and pydantic are all this package imports.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

Signal = Literal["raw", "leave_one_out", "standardised"]


@dataclass(frozen=True)
class Pick:
    """One decision, kept with the probability it was drawn with."""

    id: str  # unique in its bandit
    arm: str
    probability: float
    step: int  # the bandit's own clock: how many times it had been asked before


@dataclass(frozen=True)
class Feedback:
    """What a pick earned."""

    pick: Pick
    reward: float  # mean |advantage| of what the pick produced; ignored when nothing was observed
    num_groups: int = 1  # groups behind the reward: 1 in a stage, a stage's count for a scheduler, 0: none


class ChooserConfig(BaseModel):
    """Options of whatever chooses; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class BanditConfig(ChooserConfig):
    """What every bandit over categories takes."""

    floor: float = Field(
        0.0, ge=0, le=1, description="Total uniform mass F mixed in: P = (1 - F) P + F / K, K arms."
    )
    signal: Signal = Field(
        "raw",
        description="How |advantage| is measured: raw (centred on the group mean), leave_one_out, "
        "or standardised (divided by the group's standard deviation).",
    )
    signal_reward: Literal["value", "correct"] = Field(
        "value", description="What the signal reads: the score's value, or 1 where it is correct."
    )


class Bandit(ABC):
    """Chooses arms by probabilities that its history gives.

    Calls: `pick` any number of times, each followed sooner or later by `learn` for its picks; feedback for an
    unknown, retired or already learned pick is dropped. One thread. All randomness comes from `rng`. Arms are
    kept in order of their names, so the order in which they were given never matters.
    """

    def __init__(self, arms: Iterable[str], rng: np.random.Generator, floor: float = 0.0) -> None:
        self.arms = sorted(arms)
        self.rng = rng
        self.floor = floor
        self.clock = 0
        self.num_picks = dict.fromkeys(self.arms, 0)
        self._pending: dict[str, Pick] = {}
        if not self.arms or len(set(self.arms)) != len(self.arms):
            raise ValueError(f"a bandit needs arms with distinct names, not {self.arms}")

    @abstractmethod
    def preferences(self) -> np.ndarray:
        """Probabilities before the floor, [K] in the order of `arms`; draws nothing."""

    @abstractmethod
    def observe(self, rewards: Mapping[str, float]) -> None:
        """Learn from one step: the mean reward of each arm that was observed in it."""

    def values(self) -> dict[str, float | None]:
        """Estimate each arm's reward; None where the bandit keeps no estimate."""
        return dict.fromkeys(self.arms, None)

    def probabilities(self) -> dict[str, float]:
        """Probability of each arm for the next pick; draws nothing."""
        return dict(zip(self.arms, self._floored().tolist(), strict=True))

    def pick(self, n: int) -> list[Pick]:
        """Draw n arms independently from the current probabilities."""
        probabilities = self._floored()
        edges = np.cumsum(probabilities)
        drawn = np.searchsorted(edges, self.rng.random(n) * edges[-1], side="right")
        picks = [
            self._record(slot, min(int(k), len(self.arms) - 1), probabilities) for slot, k in enumerate(drawn)
        ]
        self.clock += 1
        return picks

    def learn(self, feedback: Sequence[Feedback]) -> None:
        """Take feedback in; idempotent by pick, late feedback allowed. A non-finite reward changes nothing."""
        for item in feedback:
            if item.num_groups and not math.isfinite(item.reward):
                raise ValueError(
                    f"the reward of pick {item.pick.id} ({item.pick.arm}) is {item.reward}: refused"
                )
        fresh: dict[int, dict[str, list[tuple[float, int]]]] = {}
        for item in feedback:
            pick = self._pending.pop(item.pick.id, None)
            if pick is not None and pick.arm in self.num_picks and item.num_groups:
                fresh.setdefault(pick.step, {}).setdefault(pick.arm, []).append(
                    (item.reward, item.num_groups)
                )
        for step in sorted(fresh):
            self.observe({arm: _weighted_mean(seen) for arm, seen in sorted(fresh[step].items())})

    def add(self, arm: str) -> None:
        """Add an arm; the relative probabilities of the others stay as they are."""
        if arm in self.num_picks:
            raise ValueError(f"arm {arm!r} is there already")
        self.arms = sorted([*self.arms, arm])
        self.num_picks[arm] = 0

    def retire(self, arm: str) -> None:
        """Take an arm out; its late feedback will be dropped."""
        if len(self.arms) == 1:
            raise ValueError(f"{arm!r} is the last arm and cannot be retired")
        self.arms.remove(arm)
        del self.num_picks[arm]

    def state(self) -> dict[str, Any]:
        """Everything that a later pick depends on, as JSON."""
        return {
            "arms": self.arms,
            "clock": self.clock,
            "num_picks": self.num_picks,
            "pending": [[p.id, p.arm, p.probability, p.step] for p in self._pending.values()],
            "rng": self.rng.bit_generator.state,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state as if nothing had happened."""
        self.arms = list(state["arms"])
        self.clock = int(state["clock"])
        self.num_picks = {arm: int(n) for arm, n in state["num_picks"].items()}
        self._pending = {row[0]: Pick(*row) for row in state["pending"]}
        self.rng.bit_generator.state = state["rng"]

    def _floored(self) -> np.ndarray:
        preferences = self.preferences()
        return (1 - self.floor) * preferences + self.floor / len(self.arms)

    def _record(self, slot: int, index: int, probabilities: np.ndarray) -> Pick:
        arm = self.arms[index]
        pick = Pick(f"{self.clock}.{slot}", arm, float(probabilities[index]), self.clock)
        self._pending[pick.id] = pick
        self.num_picks[arm] += 1
        return pick


def _weighted_mean(seen: list[tuple[float, int]]) -> float:
    """Mean reward, each entry counting for its groups."""
    return sum(reward * n for reward, n in seen) / sum(n for _, n in seen)
