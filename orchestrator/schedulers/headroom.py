"""Headroom: the environment with most left to learn, as far as there is evidence that stages on it teach something.

    p    pass rate, an average over the first horizon;   z: how far it moves from stage to stage, in standard deviations
    m    = (z^2 - null) / (sure^2 - null), cut to [0, 1];   s: mean |advantage|
    w    = (1 - p) (rest min(1, s / trace) + m (min(s, .5) / .5)^power)
    P    = w / sum of w, then the guards
    after every stage: owed <- owed + P - [had it];   the environment of the largest owed + P

P is the share of the stages that an environment gets, as evenly spaced as it can be: what was drawn with it would be
left alone, now and then, for as long as it takes to be forgotten. Where all environments are alike they take turns.

Source: Evergreen's own, after arXiv 2505.14970 and arXiv 2106.14876: the rule of the bandit `headroom`, which says why
each factor, a level up.
Reward: the mean raw |advantage| of the stage's own groups; their mean score is the pass rate. A stage is one
observation of it, whose variance is measured by how the scores of its groups scatter: so horizons are in stages, and a
pass rate need only move by more than chance makes of a whole stage. Which categories were played moves it too.
An environment that had one stage counts as moving; one that never had any comes first, and one without a stage keeps
everything. A stage without signal teaches nothing. It forgets signals within `memory` groups of the environment, so
mostly the last stage's counts, and pass rates with the horizons.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from orchestrator.bandits import headroom
from orchestrator.bandits.contracts import Bandit, Floats, Pick, StepFeedback, proportional
from orchestrator.schedulers.guards import GuardConfig, GuardedScheduler

TIE = 1e-9  # of a stage: nearer than that is alike

SOURCE = "arXiv 2505.14970, arXiv 2106.14876"


class Config(headroom.Options, GuardConfig):
    usual_share: ClassVar[float] = 0.02

    type: Literal["headroom"] = "headroom"
    min_share: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Least share of every environment; null: .02, or half an equal share if that is less.",
    )
    reward: Literal["advantage"] = Field(
        "advantage", description="What a stage earns: the mean raw |advantage| of its own groups."
    )
    horizons: headroom.Horizons = Field(
        [2.0], description="Over how many stages of an environment its pass rate is averaged."
    )


class SpacedScheduler(GuardedScheduler):
    """Behind the guards, picks the environment that is furthest behind its share; ties are shared equally."""

    owed: Floats  # stages that each environment is behind its share

    def __init__(self, arms: Iterable[str], rng: np.random.Generator, rule: Bandit, config: GuardConfig) -> None:
        super().__init__(arms, rng, rule, config)
        self.keep(owed=0.0)

    def preferences(self) -> Floats:
        return self.next_probabilities(self.owed) if self.why() == "chosen" else super().preferences()

    def next_probabilities(self, owed: Floats) -> Floats:
        """Probability of each environment for the next stage, [K]."""
        behind = owed + self.shares()
        first = behind >= behind.max() - TIE
        return np.asarray(first / first.sum())

    def draw(self, n: int) -> tuple[NDArray[np.intp], Floats]:
        if self.why() != "chosen":
            return super().draw(n)
        owed, places, chances = self.owed.copy(), np.zeros(n, np.intp), np.zeros(n)
        for slot in range(n):
            probabilities = self.next_probabilities(owed)
            places[slot] = proportional(probabilities, 1, self.rng)[0]
            chances[slot] = probabilities[places[slot]]
            owed += self.shares()
            owed[places[slot]] -= 1
        return places, chances

    def enter(self, places: NDArray[np.intp], probabilities: Floats) -> list[Pick]:
        if self._picked.all():  # the first stages, one each, are nobody's debt
            self.owed += len(places) * self.shares() - np.bincount(places, minlength=len(self.arms))
        return super().enter(places, probabilities)

    def load_state(self, state: Mapping[str, Any]) -> None:
        # a state from before stages were spaced owes nobody anything
        super().load_state({"owed": dict.fromkeys(state["arms"], 0.0), **state})


class StageHeadroom(headroom.Headroom):
    """The rule over environments; its movement counts stages."""

    def follow_movement(self, seen: StepFeedback) -> None:
        n = seen.num_groups
        super().follow_movement(replace(seen, num_groups=np.ones(len(n)), num_picks=n, scatter=seen.scatter / n))


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> SpacedScheduler:
    names = list(arms)
    return SpacedScheduler(names, rng, StageHeadroom(names, rng, config, config.horizons), config)
