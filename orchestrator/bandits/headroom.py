"""Headroom: categories with most left to learn, as far as there is evidence that training there teaches something.

After every step in which the arm had n groups of mean |advantage| `reward`, N groups so far:

    r <- r + max(1 - exp(-n / memory), n / (N + 1)) (reward - r);   s = r + .5 / (N + 1)
    p    pass rate, an average over the first horizon;   z: how far it moves, in standard deviations, times `falling`
         where it falls, as the largest of the horizons sees it (`pass_rate_movement`)
    m    = (z^2 - null) / (sure^2 - null), cut to [0, 1];   1 for the arm's first `grace` groups
    w    = (1 - p) (rest min(1, s / trace) + m (min(s, .5) / .5)^power)
    P    = w / sum of w, then the floor

1 - p is the headroom: what is mastered has none. The signal s is what a gradient is made of: an arm without any teaches
nothing, and falls to about nothing within some tens of groups. A coin has the largest signal there is and teaches
nothing either, but its pass rate does not move: m leaves it the small share `rest`, as it leaves what will only move
later. What moves counts in full, more where the signal is stronger: with power .5 and 0/1 rewards its weight is largest
at a pass rate of 1/4. There is no temperature.

With `falling` 0 only what rises moves: a pass rate that falls while the arm is trained is no learning, whether its pay
drifts without reason or it is being forgotten. What is forgotten gains headroom, and moves as soon as it rises again.
With 1, as schedulers have it, whose environments are forgotten between their stages, what falls counts as what rises.

null is the mean square of z where nothing moves and `falling` is 1: 1 with one horizon, 1.6 with two (50 and 300, in
the end). With 0 it is about half of that, so that noise passes less often.

Source: Evergreen's own. The signal as evidence is that of SEC (arXiv 2505.14970), the change of the pass rate that of
learning progress (arXiv 2106.14876).
Reward: |advantage|, 0 or more; .5 and beyond count alike. Scores in [0, 1] are needed: an arm without has p = 0, m = 1.
An arm never seen has s = .5, p = 0 and m = 1; s is as if one more group had earned .5. One not picked keeps everything.
It forgets signals with the time constant `memory`, pass rates with the horizons, in groups of the arm's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from orchestrator.bandits.contracts import BanditConfig, ChooserConfig, Floats, StepFeedback
from orchestrator.bandits.pass_rate_movement import ALL, PassRateMovement, Places
from orchestrator.bandits.softmax import normalised

SOURCE = "arXiv 2505.14970, arXiv 2106.14876"

NULL = (1.0, 1.6)  # mean square of z where nothing moves, with one horizon and with two
FULL = 0.5  # the largest raw |advantage| of 0/1 rewards, and what an arm never seen is thought to have
FALLING = "How much of its movement counts where a pass rate falls; 0: only what rises moves."
LEAST = 1e-6  # weight of an arm of which nothing is left: where that is so of all, all are alike

Horizons = Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1, max_length=len(NULL))]


class Options(ChooserConfig):
    """Options of the rule alone, as schedulers use it too."""

    power: float = Field(0.5, ge=0, description="Of the signal, for what moves; 0: every signal counts alike.")
    rest: float = Field(0.1, ge=0, description="Weight of what has a signal but does not move; what moves has 1 more.")
    trace: float = Field(0.02, gt=0, description="Signal from which on an arm has the whole of `rest`.")
    sure: float = Field(2.5, ge=1.5, le=1e6, description="z from which movement counts in full.")
    memory: float = Field(100.0, gt=0, description="Groups of an arm over which its signal is averaged.")
    falling: float = Field(1.0, ge=0, le=1, description=FALLING)


class Config(Options, BanditConfig):
    type: Literal["headroom"] = "headroom"
    floor: float = Field(0.05, ge=0, le=1, description="Total uniform mass F: P = (1 - F) P + F / K.")
    horizons: Horizons = Field(
        [50.0, 300.0],
        description="Over how many groups of an arm its pass rate is averaged: a short time to see fast learning, a "
        "long one for slow learning.",
    )
    grace: float = Field(100.0, ge=0, description="Groups of an arm during which it counts as moving.")
    falling: float = Field(0.0, ge=0, le=1, description=FALLING)

    @model_validator(mode="before")
    @classmethod
    def as_it_was(cls, raw: Any) -> Any:
        """Let a run from before `falling`, whose resolved spec has all other options, count what falls as it did."""
        if isinstance(raw, dict) and cls.model_fields.keys() - raw.keys() == {"falling"}:
            return {**raw, "falling": 1.0}
        return raw


class Headroom(PassRateMovement):
    num_groups: Floats  # N
    earned: Floats  # r
    _weights: Floats | None  # w of all arms, of each by its own numbers alone: kept from one pick to the next

    def __init__(
        self,
        arms: Iterable[str],
        rng: np.random.Generator,
        options: Options,
        horizons: Sequence[float],
        grace: float = 0.0,
        floor: float = 0.0,
    ) -> None:
        super().__init__(arms, rng, floor)
        self.options, self.grace = options, grace
        self.null = NULL[len(horizons) - 1]
        self.keep(num_groups=0.0, earned=0.0)
        self.watch_movement(horizons)

    def preferences(self) -> Floats:
        if self._weights is None:
            self._weights = self.weights()
        return normalised(self._weights)

    def weights(self, at: Places = ALL) -> Floats:
        """w of the arms."""
        options, signal = self.options, self.signal(at)
        resting = options.rest * np.minimum(1.0, signal / options.trace)
        learning = self.moving(at) * (np.minimum(signal, FULL) / FULL) ** options.power
        return np.maximum((1 - self.pass_rate(at)) * (resting + learning), LEAST)

    def signal(self, at: Places = ALL) -> Floats:
        """s of the arms."""
        return self.earned[at] + FULL / (self.num_groups[at] + 1)

    def moving(self, at: Places = ALL) -> Floats:
        """m of the arms, in [0, 1]."""
        share = (self.movement(self.options.falling, at) ** 2 - self.null) / (self.options.sure**2 - self.null)
        return np.where(self.num_scored[at] <= self.grace, 1.0, np.clip(share, 0.0, 1.0))

    def observe(self, seen: StepFeedback) -> None:
        self.average(seen)
        self.follow_movement(seen)
        if self._weights is not None:
            self._weights[seen.at] = self.weights(seen.at)

    def average(self, seen: StepFeedback) -> None:
        """Move r: a plain mean beside one group of 0 at first, with the time constant `memory` later."""
        at, n = seen.at, seen.num_groups
        self.num_groups[at] += n
        rate = np.maximum(-np.expm1(-n / self.options.memory), n / (self.num_groups[at] + 1))
        self.earned[at] += rate * (np.maximum(seen.reward, 0.0) - self.earned[at])

    def estimates(self) -> Floats:
        return np.where(self.num_groups > 0, self.signal(), np.nan)

    def _set_arms(self, arms: list[str]) -> None:
        super()._set_arms(arms)
        self._weights = None


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> Headroom:
    return Headroom(arms, rng, config, config.horizons, config.grace, config.floor)
