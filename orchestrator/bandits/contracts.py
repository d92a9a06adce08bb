"""The interface of a bandit over named arms: `pick`, `learn`, `probabilities`, and a state as JSON.

The curriculum asks for picks, plays them and returns one feedback a pick, possibly late or twice. A *step* is one call
of `pick`, a *slot* one pick; every option says which it counts in. This package imports numpy and pydantic alone.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field

Signal = Literal["raw", "leave_one_out", "standardised", "learnability", "variance"]
Floats = NDArray[np.float64]
MANY_ARMS = 10_000  # of a run, all its bandits together, above which their states are `as_arrays`


@dataclass(frozen=True)
class Pick:
    """One decision, kept with the probability it was drawn with."""

    id: str  # unique in its bandit
    arm: str
    probability: float
    step: int  # the bandit's clock: how many calls of `pick` came before


@dataclass(frozen=True)
class Feedback:
    """What a pick earned."""

    pick: Pick
    reward: float  # mean |advantage| of its groups; ignored where there are none
    num_groups: int = 1  # groups behind the reward: 1 in a stage, a stage's count for a scheduler, 0: none
    score: float | None = None  # mean score of its episodes in [0, 1], for rules of learning progress
    scatter: float = 0.0  # sum over its groups of (score - mean score)^2; a pick of one group has none


@dataclass(frozen=True)
class StepFeedback:
    """The feedback of one step by arm: arrays [S], an entry for each arm that was observed in it."""

    step: int  # of the picks; late feedback has an older one than feedback before it
    at: NDArray[np.intp]  # positions in `Bandit.arms`, ascending
    reward: Floats  # mean over the arm's groups
    num_groups: Floats  # how many those are
    score: Floats  # mean score of the arm's groups; NaN without any
    importance: Floats  # sum over the arm's picks of reward / probability
    num_picks: Floats  # picks behind all that; fewer than groups where a pick was played again
    scatter: Floats  # sum over the arm's picks of their own and groups x (score - the arm's)^2; 0 without scores


@dataclass(frozen=True)
class Standing:
    """How the arms of a bandit stood: arrays [K] in the order of `arms`; what it learns later changes nothing here."""

    arms: Sequence[str]
    probabilities: Floats  # of the next pick
    estimates: Floats  # of each arm's reward; NaN without one
    num_picks: NDArray[np.int64]


@dataclass(frozen=True)
class ArmInfo:
    """What is known of an arm before its first pick."""

    size: int | None = None  # number of tasks; None: endless
    features: Mapping[str, float] = field(default_factory=dict)  # numbers that describe it, by name

    @classmethod
    def of(cls, size: int | None, parameters: Mapping[str, Any]) -> ArmInfo:
        """Describe a category by the numbers among its parameters."""
        numbers = {name: one for name, one in parameters.items() if isinstance(one, int | float)}
        return cls(size, {name: float(one) for name, one in numbers.items() if not isinstance(one, bool)})


class ChooserConfig(BaseModel):
    """Base of the options of bandits, schedulers, selections and teachers; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class BanditConfig(ChooserConfig):
    """What every bandit over categories takes."""

    by_arm: ClassVar[tuple[str, ...]] = ()
    """Options whose keys are names of arms."""

    floor: float = Field(0.0, ge=0, le=1, description="Total uniform mass F: P = (1 - F) P + F / K, K arms.")
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


class Stateful:
    """A state as JSON: `rng`, and the attributes named in `saved`: plain data, arrays, or objects with a state.

    Where `as_arrays` is set, the state has arrays where JSON would have many numbers, and is loaded alike.
    """

    saved: ClassVar[tuple[str, ...]] = ()
    as_arrays = False
    rng: np.random.Generator

    def state(self) -> dict[str, Any]:
        """Everything that a later choice depends on, as JSON; a copy."""
        return {
            "rng": self.rng.bit_generator.state,
            **{name: self.plain(getattr(self, name)) for name in self.saved},
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state exactly."""
        self.rng.bit_generator.state = state["rng"]
        for name in self.saved:
            now = getattr(self, name)
            if hasattr(now, "load_state"):
                now.load_state(state[name])
            elif isinstance(now, np.ndarray):
                loaded = np.array(state[name], now.dtype)
                setattr(self, name, loaded if loaded.size else now[:0])
            else:
                setattr(self, name, deepcopy(state[name]))

    def plain(self, value: Any) -> Any:
        """Copy an attribute for the state."""
        if isinstance(value, np.ndarray):
            return _frozen(value) if self.as_arrays else value.tolist()
        return value.state() if hasattr(value, "state") else deepcopy(value)


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    """Copy an array so that nobody need do so again: it cannot be written to."""
    copy = array.copy()
    copy.setflags(write=False)
    return copy


class Bandit(Stateful, ABC):
    """Chooses arms by probabilities that depend on the feedback so far.

    `pick` may be called any number of times before `learn`; feedback for an unknown, retired or already learned pick is
    dropped. One thread. All randomness comes from `rng`. Arms are sorted by name, so the order in which they were given
    matters only to rules that say so. Numbers of the arms are arrays [K] made by `keep`: they follow the arms as these
    are added and retired, and are part of the state.
    """

    def __init__(self, arms: Iterable[str], rng: np.random.Generator, floor: float = 0.0) -> None:
        self.rng, self.floor = rng, floor
        self.clock, self.num_replays = 0, 0
        self._starts: dict[str, float] = {}
        self._row_starts: dict[str, float] = {}
        self._pending: dict[str, Pick] = {}
        self._set_arms(sorted(arms))
        self._picked = np.zeros(len(self.arms), np.int64)
        if not self.arms or len(self._place) != len(self.arms):
            raise ValueError(f"a bandit needs arms with distinct names, not {self.arms}")

    # Implemented by a rule

    @abstractmethod
    def preferences(self) -> Floats:
        """Probabilities of the next pick before the floor, [K] in the order of `arms`; draws nothing."""

    @abstractmethod
    def observe(self, seen: StepFeedback) -> None:
        """Learn from the feedback of one step."""

    def estimates(self) -> Floats:
        """Estimate of each arm's reward, [K]; NaN without one."""
        return np.full(len(self.arms), np.nan)

    def introduce(self, about: Mapping[str, ArmInfo], num_steps: int | None = None) -> None:
        """Receive what is known of the arms and how many steps are planned; once, before the first pick."""

    def draw(self, n: int) -> tuple[NDArray[np.intp], Floats]:
        """Draw n arms, independently by default: positions [n], and the probability of each draw [n]."""
        probabilities = self._floored()
        places = proportional(probabilities, n, self.rng)
        return places, probabilities[places]

    def keep(self, **starts: float) -> None:
        """Keep numbers of the arms: an attribute [K] for each name, with the value that a new arm begins with."""
        for name, start in starts.items():
            self._starts[name] = start
            setattr(self, name, np.full(len(self.arms), start, np.float64))

    def keep_rows(self, width: int, **starts: float) -> None:
        """Keep several numbers of each arm: an attribute [K, width] for each name, which the rule itself saves."""
        for name, start in starts.items():
            self._row_starts[name] = start
            setattr(self, name, np.full((len(self.arms), width), start, np.float64))

    # Called by the curriculum

    @property
    def num_picks(self) -> dict[str, int]:
        """How often each arm was picked."""
        return dict(zip(self.arms, self._picked.tolist(), strict=True))

    def probabilities(self) -> dict[str, float]:
        """Probability of each arm for the next pick; draws nothing."""
        return self.by_arm(self._floored())

    def values(self) -> dict[str, float | None]:
        """Estimate of each arm's reward; None without one."""
        return self.known(self.estimates())

    def standing(self) -> Standing:
        """How the arms stand; draws nothing."""
        return Standing(self.arms, self._floored(), self.estimates().copy(), self._picked.copy())

    def pick(self, n: int) -> list[Pick]:
        """Choose n arms for one step, each with the probability it was drawn with."""
        return self.enter(*self.draw(n))

    def witness(self, arms: Sequence[str], probabilities: Sequence[float]) -> list[Pick]:
        """Enter picks that another bandit drew, with the probabilities it drew them with; draws nothing.

        After `learn` for these picks the bandit is as if it had drawn them itself: a rule that records picks does so in
        `enter`, never in `draw`.
        """
        places = np.array([self._place[arm] for arm in arms], np.intp)
        return self.enter(places, np.asarray(probabilities, np.float64))

    def count_replay(self) -> None:
        """Note that the picks just made fill up a step of another environment's stage."""
        self.num_replays += 1

    def enter(self, places: NDArray[np.intp], probabilities: Floats) -> list[Pick]:
        """Record the picks of one step."""
        clock, arms = self.clock, self.arms
        picks = [
            Pick(f"{clock}.{slot}", arms[k], probability, clock)
            for slot, (k, probability) in enumerate(zip(places.tolist(), probabilities.tolist(), strict=True))
        ]
        self._pending.update((pick.id, pick) for pick in picks)
        np.add.at(self._picked, places, 1)
        self.clock += 1
        return picks

    def take_back(self, picks: Iterable[Pick]) -> None:
        """Wait no more for what these picks earn, and count them no more: they are not played."""
        for pick in picks:
            if self._pending.pop(pick.id, None) is not None and pick.arm in self._place:
                self._picked[self._place[pick.arm]] -= 1

    def learn(self, feedback: Sequence[Feedback]) -> None:
        """Learn from feedback, once a pick, also late; without any, nothing of the bandit changes.

        Raises ValueError at a non-finite reward, and learns nothing.
        """
        for item in feedback:
            if item.num_groups and not math.isfinite(item.reward):
                raise ValueError(f"the reward of pick {item.pick.id} ({item.pick.arm}) is {item.reward}: refused")
        fresh: dict[int, list[Feedback]] = {}
        for item in feedback:
            pick = self._pending.pop(item.pick.id, None)
            if pick is not None and pick.arm in self._place and item.num_groups:
                fresh.setdefault(pick.step, []).append(item)
        for step in sorted(fresh):
            self.observe(self._seen(step, fresh[step]))

    def add(self, arm: str, about: ArmInfo | None = None) -> None:
        """Add an arm during the run."""
        if arm in self._place:
            raise ValueError(f"arm {arm!r} is there already")
        self._set_arms(sorted([*self.arms, arm]))
        for name, start in self._arrays().items():
            setattr(self, name, np.insert(getattr(self, name), self._place[arm], start, axis=0))

    def retire(self, arm: str) -> None:
        """Remove an arm; its late feedback will be dropped."""
        if len(self.arms) == 1:
            raise ValueError(f"{arm!r} is the last arm and cannot be retired")
        at = self._place[arm]
        self._set_arms([name for name in self.arms if name != arm])
        for name in self._arrays():
            setattr(self, name, np.delete(getattr(self, name), at, axis=0))

    def state(self) -> dict[str, Any]:
        """Everything that a later pick depends on, as JSON: numbers of the arms by arm, or as arrays in their order."""
        numbers = {"num_picks": self._picked, **{name: getattr(self, name) for name in self._starts}}
        return {
            "arms": list(self.arms),
            "clock": self.clock,
            "num_replays": self.num_replays,
            "pending": [[p.id, p.arm, p.probability, p.step] for p in self._pending.values()],
            **{name: self.plain(array) if self.as_arrays else self.by_arm(array) for name, array in numbers.items()},
            **super().state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state exactly."""
        super().load_state(state)
        arms = list(state["arms"])
        self._set_arms(self.arms if arms == self.arms else arms)  # names that were hashed are sooner in a dict
        self.clock, self.num_replays = int(state["clock"]), int(state.get("num_replays", 0))
        self._picked = self._from_state(state["num_picks"], np.int64)
        self._pending = {row[0]: Pick(*row) for row in state["pending"]}
        for name in self._starts:
            setattr(self, name, self._from_state(state[name], np.float64))

    def by_arm(self, numbers: NDArray[Any]) -> dict[str, float]:
        """Name the entries of an array [K]."""
        return dict(zip(self.arms, numbers.tolist(), strict=True))

    def known(self, numbers: Floats) -> dict[str, float | None]:
        """Name the entries of an array [K], NaN as None."""
        return {arm: None if math.isnan(number) else number for arm, number in self.by_arm(numbers).items()}

    def assign(self, numbers: Floats, values: Mapping[str, float]) -> None:
        """Write values by arm into an array [K]; those of other arms are ignored."""
        for arm in values.keys() & self._place:
            numbers[self._place[arm]] = values[arm]

    def _from_state(self, given: Mapping[str, float] | ArrayLike, kind: type[np.generic]) -> NDArray[Any]:
        """Numbers of the arms, [K], from a state: by arm, or in their order."""
        return np.array([given[arm] for arm in self.arms] if isinstance(given, Mapping) else given, kind)

    def _set_arms(self, arms: list[str]) -> None:
        self.arms, self._place = arms, {arm: k for k, arm in enumerate(arms)}

    def _arrays(self) -> dict[str, float]:
        """Names of the arrays whose first axis is the arms, with what a new arm begins with."""
        return {"_picked": 0, **self._starts, **self._row_starts}

    def _floored(self) -> Floats:
        probabilities = (1 - self.floor) * self.preferences()
        probabilities += self.floor / len(self.arms)
        return probabilities

    def _seen(self, step: int, feedback: Sequence[Feedback]) -> StepFeedback:
        size = len(feedback)
        places = np.fromiter((self._place[item.pick.arm] for item in feedback), np.intp, size)
        reward = np.fromiter((item.reward for item in feedback), np.float64, size)
        groups = np.fromiter((item.num_groups for item in feedback), np.float64, size)
        chance = np.fromiter((item.pick.probability for item in feedback), np.float64, size)
        score = np.fromiter((math.nan if item.score is None else item.score for item in feedback), np.float64, size)
        within = np.fromiter((item.scatter for item in feedback), np.float64, size)
        at, arm = np.unique(places, return_inverse=True)  # feedback has groups, so each of these arms was observed

        def total(of: Floats) -> Floats:
            return np.bincount(arm, weights=of).astype(np.float64)

        num_groups = total(groups)
        scored = np.where(np.isnan(score), 0.0, groups)
        score = np.nan_to_num(score)
        with np.errstate(invalid="ignore"):
            scores = total(scored * score) / total(scored)
        return StepFeedback(
            step=step,
            at=at,
            reward=total(reward * groups) / num_groups,
            num_groups=num_groups,
            score=scores,
            importance=total(reward / chance),
            num_picks=total(np.ones(size)),
            scatter=total(within + scored * (score - np.nan_to_num(scores)[arm]) ** 2),
        )


def proportional(weights: Floats, n: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Draw n positions [n] independently, with probability proportional to weights [K] >= 0."""
    edges = np.cumsum(weights)
    drawn: NDArray[np.intp] = np.searchsorted(edges, rng.random(n) * edges[-1], side="right")
    return np.minimum(drawn, len(edges) - 1)
