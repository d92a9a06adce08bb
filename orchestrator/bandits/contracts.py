"""What a bandit is: pick, learn, probabilities, and a state that survives JSON.

A bandit chooses among named arms that change while the policy learns. The curriculum asks for picks, plays them,
and gives one feedback a pick, possibly late or twice. Numpy and pydantic are all this package imports.

Two clocks: a *step* is one call of `pick`, a *slot* one pick. Every option says which it counts in.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

Signal = Literal["raw", "leave_one_out", "standardised", "learnability", "variance"]
Floats = NDArray[np.float64]


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
    score: float | None = None  # mean score of its episodes in [0, 1], for rules that watch progress


@dataclass(frozen=True)
class StepFeedback:
    """What a bandit learns from one step; arrays [S], an entry for each arm that was observed in it."""

    step: int  # the step of the picks; older than an earlier one's when the feedback is late
    at: NDArray[np.intp]  # positions in `Bandit.arms`, ascending
    reward: Floats  # mean over the arm's groups
    num_groups: Floats  # how many those are
    score: Floats  # mean score of the arm's groups; NaN where none was told
    importance: Floats  # sum over the arm's picks of reward / probability
    num_picks: Floats  # picks behind all that; fewer than groups where a pick was played again
    scatter: Floats  # sum over the arm's picks of groups x (score - the arm's)^2; 0 where none was told


@dataclass(frozen=True)
class ArmInfo:
    """What is known of an arm before it was ever picked."""

    size: int | None = None  # tasks it has; None: they never end
    features: Mapping[str, float] = field(default_factory=dict)  # numbers that describe it, by name


class ChooserConfig(BaseModel):
    """Options of whatever chooses; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class BanditConfig(ChooserConfig):
    """What every bandit over categories takes."""

    floor: float = Field(
        0.0, ge=0, le=1, description="Total uniform mass F mixed in: P = (1 - F) P + F / K, K arms."
    )
    signal: Signal = Field(
        "raw",
        description="What a group is worth: mean |advantage|, raw (centred on the group mean), leave_one_out, or "
        "standardised (divided by the group's standard deviation); or learnability p (1 - p), or variance (of the "
        "group's rewards, 1 at most).",
    )
    signal_reward: Literal["value", "correct"] = Field(
        "value", description="What the signal reads: the score's value, or 1 where it is correct."
    )
    signal_scale: Literal["none", "quantile"] = Field(
        "none",
        description="quantile: each environment's signals are mapped to [0, 1] between the 20 and 80 % quantiles of "
        "their last thousand, so that environments with different rewards compare (flat mode).",
    )


def signals_of(config: BaseModel) -> BanditConfig:
    """Say which signals a bandit is given; one whose options do not say is given the raw ones."""
    return config if isinstance(config, BanditConfig) else BanditConfig()


class Bandit(ABC):
    """Chooses arms by probabilities that its history gives.

    Calls: `pick` any number of times, each followed sooner or later by `learn` for its picks; feedback for an
    unknown, retired or already learned pick is dropped. One thread. All randomness comes from `rng`. Arms are
    kept in order of their names, so the order in which they were given matters only to rules that say so.

    A rule keeps its numbers of the arms in arrays [K] made by `keep`, which follow the arms as they come and go and
    into the state; what else it knows it adds to `state` and `load_state`.
    """

    def __init__(self, arms: Iterable[str], rng: np.random.Generator, floor: float = 0.0) -> None:
        self.arms = sorted(arms)
        self.rng = rng
        self.floor = floor
        self.clock = 0
        self._starts: dict[str, float] = {}
        self._picked = np.zeros(len(self.arms), np.int64)
        self._pending: dict[str, Pick] = {}
        self._place = {arm: k for k, arm in enumerate(self.arms)}
        if not self.arms or len(self._place) != len(self.arms):
            raise ValueError(f"a bandit needs arms with distinct names, not {self.arms}")

    # What a rule implements

    @abstractmethod
    def preferences(self) -> Floats:
        """Probabilities of the next pick before the floor, [K] in the order of `arms`; draws nothing."""

    @abstractmethod
    def observe(self, seen: StepFeedback) -> None:
        """Learn from one step."""

    def values(self) -> dict[str, float | None]:
        """Estimate each arm's reward; None where the bandit keeps no estimate."""
        return dict.fromkeys(self.arms, None)

    def introduce(self, about: Mapping[str, ArmInfo], num_steps: int | None = None) -> None:  # noqa: B027
        """Hear, once and before the first pick, what is known of the arms and how many steps are planned."""

    def draw(self, n: int) -> tuple[NDArray[np.intp], Floats]:
        """Draw n arms: positions [n], and the probability with which each was drawn [n]; here independently."""
        probabilities = self._floored()
        edges = np.cumsum(probabilities)
        places = np.searchsorted(edges, self.rng.random(n) * edges[-1], side="right")
        places = np.minimum(places, len(edges) - 1)
        return places, probabilities[places]

    def keep(self, **starts: float) -> None:
        """Keep numbers of the arms: an attribute [K] for each name, with the value that a new arm begins with."""
        for name, start in starts.items():
            self._starts[name] = start
            setattr(self, name, np.full(len(self.arms), start, np.float64))

    # What everybody calls

    @property
    def num_picks(self) -> dict[str, int]:
        """How often each arm was picked."""
        return dict(zip(self.arms, self._picked.tolist(), strict=True))

    def probabilities(self) -> dict[str, float]:
        """Probability of each arm for the next pick; draws nothing."""
        return self.by_arm(self._floored())

    def pick(self, n: int) -> list[Pick]:
        """Choose n arms for one step, each with the probability it was drawn with."""
        return self.enter(*self.draw(n))

    def witness(self, arms: Sequence[str], probabilities: Sequence[float]) -> list[Pick]:
        """Take over a step that another bandit picked: nothing is drawn, all else is as in `pick`.

        The probabilities are those the other drew with. Told what these picks earned, this bandit knows what it would
        know had it drawn them itself, as long as its `draw` notes nothing: a rule that notes picks does so in `enter`.
        """
        places = np.array([self._place[arm] for arm in arms], np.intp)
        return self.enter(places, np.asarray(probabilities, np.float64))

    def enter(self, places: NDArray[np.intp], probabilities: Floats) -> list[Pick]:
        """Note the picks of one step, which are now to be learned from."""
        clock, arms = self.clock, self.arms
        picks = [
            Pick(f"{clock}.{slot}", arms[k], probability, clock)
            for slot, (k, probability) in enumerate(zip(places.tolist(), probabilities.tolist(), strict=True))
        ]
        self._pending.update((pick.id, pick) for pick in picks)
        self._picked += np.bincount(places, minlength=len(arms))
        self.clock += 1
        return picks

    def learn(self, feedback: Sequence[Feedback]) -> None:
        """Take feedback in; idempotent by pick, late feedback allowed. A non-finite reward changes nothing."""
        for item in feedback:
            if item.num_groups and not math.isfinite(item.reward):
                raise ValueError(
                    f"the reward of pick {item.pick.id} ({item.pick.arm}) is {item.reward}: refused"
                )
        fresh: dict[int, list[Feedback]] = {}
        for item in feedback:
            pick = self._pending.pop(item.pick.id, None)
            if pick is not None and pick.arm in self._place and item.num_groups:
                fresh.setdefault(pick.step, []).append(item)
        for step in sorted(fresh):
            self.observe(self._seen(step, fresh[step]))

    def add(self, arm: str, about: ArmInfo | None = None) -> None:
        """Add an arm while the run goes on."""
        if arm in self._place:
            raise ValueError(f"arm {arm!r} is there already")
        self.arms = sorted([*self.arms, arm])
        self._place = {name: k for k, name in enumerate(self.arms)}
        at = self._place[arm]
        self._picked = np.insert(self._picked, at, 0)
        for name, start in self._starts.items():
            setattr(self, name, np.insert(getattr(self, name), at, start))

    def retire(self, arm: str) -> None:
        """Take an arm out; its late feedback will be dropped."""
        if len(self.arms) == 1:
            raise ValueError(f"{arm!r} is the last arm and cannot be retired")
        at = self._place[arm]
        self.arms.remove(arm)
        self._place = {name: k for k, name in enumerate(self.arms)}
        self._picked = np.delete(self._picked, at)
        for name in self._starts:
            setattr(self, name, np.delete(getattr(self, name), at))

    def state(self) -> dict[str, Any]:
        """Everything that a later pick depends on, as JSON."""
        return {
            "arms": list(self.arms),
            "clock": self.clock,
            "num_picks": self.num_picks,
            "pending": [[p.id, p.arm, p.probability, p.step] for p in self._pending.values()],
            "rng": self.rng.bit_generator.state,
            **{name: self.by_arm(getattr(self, name)) for name in self._starts},
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state as if nothing had happened."""
        self.arms = list(state["arms"])
        self._place = {name: k for k, name in enumerate(self.arms)}
        self.clock = int(state["clock"])
        self._picked = np.array([state["num_picks"][arm] for arm in self.arms], np.int64)
        self._pending = {row[0]: Pick(*row) for row in state["pending"]}
        self.rng.bit_generator.state = state["rng"]
        for name in self._starts:
            setattr(self, name, np.array([state[name][arm] for arm in self.arms], np.float64))

    def by_arm(self, numbers: Floats) -> dict[str, float]:
        """Name the entries of an array [K]."""
        return dict(zip(self.arms, numbers.tolist(), strict=True))

    def _floored(self) -> Floats:
        preferences = self.preferences()
        return (1 - self.floor) * preferences + self.floor / len(self.arms)

    def _seen(self, step: int, feedback: Sequence[Feedback]) -> StepFeedback:
        """Gather the feedback of one step by arm."""
        num_arms, size = len(self.arms), len(feedback)
        place = np.fromiter((self._place[item.pick.arm] for item in feedback), np.intp, size)
        reward = np.fromiter((item.reward for item in feedback), np.float64, size)
        groups = np.fromiter((item.num_groups for item in feedback), np.float64, size)
        chance = np.fromiter((item.pick.probability for item in feedback), np.float64, size)
        score = np.fromiter(
            (math.nan if item.score is None else item.score for item in feedback), np.float64, size
        )

        def total(of: Floats) -> Floats:
            return np.bincount(place, weights=of, minlength=num_arms).astype(np.float64)

        num_groups = total(groups)
        at = np.flatnonzero(num_groups)
        told = np.where(np.isnan(score), 0.0, groups)
        score = np.nan_to_num(score)
        with np.errstate(invalid="ignore"):
            scores = total(told * score) / total(told)
        return StepFeedback(
            step=step,
            at=at,
            reward=total(reward * groups)[at] / num_groups[at],
            num_groups=num_groups[at],
            score=scores[at],
            importance=total(reward / chance)[at],
            num_picks=total(np.ones(size))[at],
            scatter=total(told * (score - np.nan_to_num(scores)[place]) ** 2)[at],
        )
