"""Self-Evolving Curriculum where the pass rate moves: SEC whose reward counts only as far as progress is beyond doubt.

    z    how far the arm's pass rate moves, in standard deviations: the largest of the horizons (`pass_rate_movement`)
    Q <- (1 - alpha) Q + alpha r min(1, (z / sure)^2)          then everything as in SEC

A category of pure noise has the largest mean |advantage| there is and teaches nothing: every sharp rule falls for it
(curricula reference, section 8.3). But its pass rate does not move, while that of a category being learned does.
`sure` was chosen with two horizons, 50 and 300 groups: where nothing moves their z has mean square 1.6 in the end.

Source: SEC is arXiv 2505.14970; the gate is Evergreen's own, after the learning progress of arXiv 2106.14876. How its
numbers were chosen, and against what it holds: docs/results/bandits.md.
Reward: any number; scores in [0, 1] are needed: a reward whose group has none is not gated.
An arm never seen has Q = `start`; its gate is open for its first `grace` groups, and until there are two steps to
compare. One not picked keeps everything. It forgets as SEC does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from orchestrator.bandits import sec
from orchestrator.bandits.contracts import Floats, StepFeedback
from orchestrator.bandits.pass_rate_movement import ALL, PassRateMovement, Places

SOURCE = "arXiv 2505.14970, arXiv 2106.14876"


class Config(sec.Config):
    type: Literal["gated_sec"] = "gated_sec"  # type: ignore[assignment]
    floor: float = Field(0.1, ge=0, le=1, description="Total uniform mass F: P = (1 - F) P + F / K.")
    gate: Literal["significance"] = Field(  # type: ignore[assignment]
        "significance", description="What this bandit is SEC with; the other gate is an option of `sec`."
    )
    horizons: list[Annotated[float, Field(gt=0)]] = Field(
        [50.0, 300.0],
        min_length=1,
        description="Over how many groups of an arm its pass rate is averaged: a short time to see fast learning, a "
        "long one for slow learning.",
    )
    sure: float = Field(2.0, gt=0, description="z from which a reward counts in full.")
    grace: float = Field(100.0, ge=0, description="Groups of an arm during which its gate is open.")


class GatedSec(PassRateMovement, sec.Sec):
    config: Config

    def __init__(self, arms: Iterable[str], rng: np.random.Generator, config: Config) -> None:
        super().__init__(arms, rng, config)
        self.watch_movement(config.horizons)

    def gate(self, at: Places = ALL) -> Floats:
        """Share of the arms' rewards that counts, in [0, 1]."""
        share = np.minimum(1.0, (self.movement(at=at) / self.config.sure) ** 2)
        return np.where(self.num_scored[at] <= self.config.grace, 1.0, share)

    def _counted(self, seen: StepFeedback) -> Floats:
        self.follow_movement(seen)
        return seen.reward * np.where(np.isnan(seen.score), 1.0, self.gate(seen.at))


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> GatedSec:
    return GatedSec(arms, rng, config)
