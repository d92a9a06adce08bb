"""Discounted LinUCB: an arm is judged by its features, so that what one arm shows counts for those like it.

    every step:  A <- gamma A + (1 - gamma) lambda I + sum of n_k x_k x_k',  b <- gamma b + sum of n_k r_k x_k
    theta = A^-1 b;  index_k = theta' x_k + alpha sqrt(x_k' A^-1 x_k);  the arm of the highest index

with n_k the arm's slots in the step and r_k their mean reward. Source: arXiv 1003.0146 (LinUCB, Algorithm 1, with one
theta for all arms), discounted; curricula reference, section 3.8. A starts as lambda I, and x_k is 1
followed by the arm's features, each scaled to [0, 1] over the arms known at the start. Features come from the
environment (`ArmInfo.features`): numbers such as a difficulty or a length, the same ones for every arm. Without any it
refuses to start. A reward that is not linear in them (|advantage| is highest half-way)
needs a feature that bends.
Reward: any number; alpha is in its units. An arm never seen is estimated from its features at once, also one added
during the run. One not picked changes with others alone. Weight gamma^s after s steps: half-life 6.6 steps at .9.
Slots of a batch are filled in turn: a slot given to x adds x x' to A and leaves theta alone, so the widths of x and of
what is like it shrink (`index_rule`). The probability of the best index is 1 before the floor; ties are shared.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from orchestrator.bandits.contracts import ArmInfo, Bandit, BanditConfig, Floats, StepFeedback
from orchestrator.bandits.index_rule import fill
from orchestrator.bandits.softmax import normalised

SOURCE = "arXiv 1003.0146"

LEVEL = 1e-12  # indices closer than this are a tie: equal features may be rounded differently
NO_FEATURES = (
    "linucb judges arms by their features, and none are known: give the categories parameters that are numbers (or "
    "`introduce` the arms with About(features=...) before the first pick), or choose another bandit"
)


class Config(BanditConfig):
    type: Literal["linucb"] = "linucb"
    alpha: float = Field(0.5, ge=0, description="Width of the confidence bonus, in units of the reward.")
    discount: float = Field(0.9, gt=0, le=1, description="gamma: weight of the past, per step; 1: no decay.")
    ridge: float = Field(1.0, gt=0, description="lambda: slots that the prior, an estimate of 0, counts for.")
    ranges: dict[str, tuple[float, float]] = Field(
        default_factory=dict,
        description="What of a feature is mapped to 0 and to 1; default: the least and the most of the arms known at "
        "the start. Arms beyond it are extrapolated to.",
    )


class LinUcb(Bandit):
    x: Floats  # [K, d]
    saved = ("now", "x", "a", "b")

    def __init__(self, arms: Iterable[str], rng: np.random.Generator, config: Config) -> None:
        super().__init__(arms, rng, config.floor)
        self.config = config
        self.now = -1  # the latest step learned from
        self.ranges: dict[str, tuple[float, float]] = {}  # by feature, in the order of x
        self.keep_rows(1, x=1.0)
        self.a, self.b = self._prior()

    def introduce(self, about: Mapping[str, ArmInfo], num_steps: int | None = None) -> None:
        """Take the features of the arms; ValueError without any, or where an arm lacks one that others have."""
        features = {arm: about[arm].features if arm in about else {} for arm in self.arms}
        names = sorted({name for of_arm in features.values() for name in of_arm})
        if not names:
            raise ValueError(NO_FEATURES)
        unknown = sorted(set(self.config.ranges) - set(names))
        if unknown:
            raise ValueError(f"bandit.ranges names {unknown}; the features of the arms are {names}")
        self.ranges = dict.fromkeys(names, (0.0, 1.0))
        raw = np.array([self._numbers(arm, features[arm]) for arm in self.arms])
        for name, column in zip(names, raw.T, strict=True):
            low, high = self.config.ranges.get(name, (float(column.min()), float(column.max())))
            self.ranges[name] = (low, high if high != low else low + 1)
        self.x = np.array([self._scaled(row) for row in raw])
        self.a, self.b = self._prior()

    def estimate(self) -> tuple[Floats, Floats]:
        """theta [d] and A^-1 [d, d]."""
        if not self.ranges:
            raise ValueError(NO_FEATURES)
        inverse = np.asarray(np.linalg.inv(self.a), np.float64)
        return inverse @ self.b, inverse

    def index(self) -> Floats:
        """Index of every arm, [K]."""
        theta, inverse = self.estimate()
        return np.asarray(self.x @ theta + self.config.alpha * np.sqrt(squared_widths(self.x, inverse)))

    def preferences(self) -> Floats:
        index = self.index()
        return normalised((index >= index.max() - LEVEL).astype(np.float64))

    def draw(self, n: int) -> tuple[NDArray[np.intp], Floats]:
        theta, inverse = self.estimate()
        board = Widths(self.x, self.x @ theta, inverse, self.config.alpha, n)
        return fill(board, n, len(self.arms), self.floor, self.rng)

    def observe(self, seen: StepFeedback) -> None:
        """Discount A and b for the steps since the last one learned from, then count what was seen."""
        kept = self.config.discount ** max(0, seen.step - self.now)
        self.now = max(self.now, seen.step)
        x = self.x[seen.at]
        count = seen.num_groups * self.config.discount ** (self.now - seen.step)
        self.a = kept * self.a + (1 - kept) * self.config.ridge * np.eye(len(self.b)) + x.T @ (count[:, None] * x)
        self.b = kept * self.b + x.T @ (count * seen.reward)

    def estimates(self) -> Floats:
        return np.asarray(self.x @ self.estimate()[0]) if self.ranges else super().estimates()

    def add(self, arm: str, about: ArmInfo | None = None) -> None:
        row = self._scaled(self._numbers(arm, about.features if about else {}))
        super().add(arm, about)
        self.x[self._place[arm]] = row

    def state(self) -> dict[str, Any]:
        ranges = [[name, *ends] for name, ends in self.ranges.items()]
        return {**super().state(), "ranges": ranges, "by_option": self._by_option}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state; what was learned begins anew where a fork's option says other ranges."""
        rows, ranges = dict(zip(self.arms, self.x, strict=True)), self.ranges
        super().load_state(state)
        if state.get("by_option", self._by_option) == self._by_option:
            self.ranges = {name: (low, high) for name, low, high in state["ranges"]}
            return
        self.ranges = ranges
        self.x = np.array([rows.get(arm, row) for arm, row in zip(self.arms, self.x, strict=True)])
        self.a, self.b = self._prior()

    @property
    def _by_option(self) -> dict[str, list[float]]:
        return {name: list(ends) for name, ends in sorted(self.config.ranges.items())}

    def _prior(self) -> tuple[Floats, Floats]:
        """A [d, d] and b [d] before anything is learned."""
        num_features = self.x.shape[1]
        return self.config.ridge * np.eye(num_features), np.zeros(num_features)

    def _numbers(self, arm: str, features: Mapping[str, float]) -> list[float]:
        """Features of an arm in the order of x, without those that the others do not have."""
        missing = [name for name in self.ranges if not math.isfinite(features.get(name, math.nan))]
        if missing:
            raise ValueError(
                f"arm {arm!r} has no finite number for {missing}: linucb needs {list(self.ranges)} of every arm. "
                "Give its category those parameters, or choose another bandit"
            )
        return [float(features[name]) for name in self.ranges]

    def _scaled(self, numbers: Iterable[float]) -> list[float]:
        """x of an arm."""
        ranges = self.ranges.values()
        return [1.0, *((f - low) / (high - low) for f, (low, high) in zip(numbers, ranges, strict=True))]


class Widths:
    """A board (`index_rule`) on which a slot for one arm narrows all those like it.

    A + x x' has the inverse A^-1 - u u' with u = A^-1 x / sqrt(1 + x' A^-1 x) (Sherman and Morrison), and the squared
    width y' A^-1 y of an arm falls by (u'y)^2: O(K d) a slot. Alpha is multiplied in at the start.

    Only arms that may win one of the n slots are on it, which changes nothing. With s the largest squared width at the
    start, x x' <= s A for every arm: n slots make no more of A than (1 + n s) A. So no index falls below mean + alpha
    width / sqrt(1 + n s), the highest one never below the highest of these, and an arm that begins lower never wins.
    """

    def __init__(self, x: Floats, mean: Floats, inverse: Floats, alpha: float, n: int) -> None:
        squared = squared_widths(x, inverse)
        bonus = alpha * np.sqrt(squared)
        least = (mean + bonus / math.sqrt(1 + n * squared.max())).max()
        on = np.flatnonzero(mean + bonus >= least - LEVEL)
        self._x, self._inverse = x, inverse.copy()
        self._on, self._mean, self._squared = on.tolist(), mean[on], alpha**2 * squared[on]
        self._columns = np.ascontiguousarray(alpha * x[on].T)

    def best(self) -> list[int]:
        """Arms that share the highest index, searched for only if the second highest is level."""
        index = np.sqrt(self._squared)
        index += self._mean
        first = index.argmax()
        highest, index[first] = index[first], -math.inf
        if index[index.argmax()] < highest - LEVEL:
            return [self._on[first]]
        index[first] = highest
        return [self._on[k] for k in np.flatnonzero(index >= highest - LEVEL)]

    def give(self, arm: int) -> None:
        x = self._x[arm]
        u = self._inverse.dot(x)
        u /= math.sqrt(1 + x.dot(u))
        narrowed = u.dot(self._columns)
        narrowed *= narrowed
        self._squared -= narrowed
        column = u[:, None]
        self._inverse -= column.dot(column.T)


def squared_widths(x: Floats, inverse: Floats) -> Floats:
    """x' A^-1 x of every arm, [K]."""
    return np.asarray(np.einsum("kd,kd->k", x @ inverse, x))


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> LinUcb:
    return LinUcb(arms, rng, config)
