"""Headroom: the environment with most left to learn, as far as there is evidence that stages on it teach something.

    p    pass rate, an average over the first horizon;   z: how far it moves from stage to stage, in standard deviations
    m    = (z^2 - null) / (sure^2 - null), cut to [0, 1];   s: mean |advantage|
    w    = (1 - p) (rest min(1, s / trace) + m (min(s, .5) / .5)^power)
    P    = w / sum of w, then the guards

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

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import Field

from orchestrator.bandits import headroom
from orchestrator.bandits.contracts import StepFeedback
from orchestrator.schedulers.guards import GuardConfig, GuardedScheduler

SOURCE = "arXiv 2505.14970, arXiv 2106.14876"


class Config(headroom.Options, GuardConfig):
    type: Literal["headroom"] = "headroom"
    reward: Literal["advantage"] = Field(
        "advantage", description="What a stage earns: the mean raw |advantage| of its own groups."
    )
    horizons: headroom.Horizons = Field(
        [2.0], description="Over how many stages of an environment its pass rate is averaged."
    )


class StageHeadroom(headroom.Headroom):
    """The rule over environments; its movement counts stages."""

    def observe(self, seen: StepFeedback) -> None:
        self.average(seen)
        n = seen.num_groups
        self.follow_movement(replace(seen, num_groups=np.ones(len(n)), num_picks=n, scatter=seen.scatter / n))


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> GuardedScheduler:
    names = list(arms)
    return GuardedScheduler(names, rng, StageHeadroom(names, rng, config, config.horizons), config)
