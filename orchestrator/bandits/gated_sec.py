"""Self-Evolving Curriculum where the pass rate moves: SEC whose reward counts only as far as progress is beyond doubt.

For h in `horizons`, with n the groups that the arm had in the step, N all of them so far and s their mean score:

    fast <- fast + max(1 - exp(-n / h), n / N) (s - fast)
    slow <- slow + max(1 - exp(-n / 2h), n / N) (fast - slow)
    z_h   = |fast - slow| / sqrt(v / min(3h, N))     v: variance of one group's score, measured as it goes
    Q    <- (1 - a) Q + a r min(1, (max_h z_h / sure)^2)          then everything as in SEC

A category of pure noise has the largest mean |advantage| there is and teaches nothing: every sharp rule falls for it
(curricula reference, section 8.3). But its pass rate stays where it is, while that of a category being learned moves.
v / 3h is the variance of fast - slow when nothing moves (two exponential averages in series, the second twice as slow),
and v / N that of a mean minus the mean of all earlier means. So z is in standard deviations, with no unit of pass rate
or of time to tune, and two horizons see fast and slow learning. The clock counts groups: the averages are equally sure
of themselves however often an arm is picked.

Source: SEC is arXiv 2505.14970; the gate is Evergreen's own, after the learning progress of arXiv 2106.14876. How its
numbers were chosen, and against what it holds, is told in docs/results/bandits.md.
Reward: any number; scores in [0, 1] are needed: a reward whose group brings none is not gated.
An arm never seen has Q = `start`, and its gate is open for its first `grace` groups; one that was not picked keeps
everything. It forgets as SEC does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from orchestrator.bandits import sec
from orchestrator.bandits.contracts import Floats, Seen

SOURCE = "arXiv 2505.14970, arXiv 2106.14876"

SPREAD_HORIZON = 300.0  # groups; time constant of the measured variance of one group's score
SPREAD_AT_FIRST = 0.03  # that of eight fair coins
NEGLIGIBLE = 1e-12  # variance below which scores are all the same: then any movement is beyond doubt


class Config(sec.Config):
    """Options of SEC, and of the gate."""

    type: Literal["gated_sec"] = "gated_sec"  # type: ignore[assignment]
    floor: float = Field(0.1, ge=0, le=1, description="Total uniform mass F mixed in: P = (1 - F) P + F / K.")
    gate: Literal["significance"] = Field(  # type: ignore[assignment]
        "significance", description="What this bandit is SEC with; the other gate is an option of `sec`."
    )
    horizons: list[Annotated[float, Field(gt=0)]] = Field(
        [50.0, 300.0],
        min_length=1,
        description="Over how many groups of an arm its pass rate is averaged: a short time to see fast learning, a "
        "long one for slow learning.",
    )
    sure: float = Field(
        2.0, gt=0, description="Standard deviations of movement from which a reward counts in full."
    )
    grace: float = Field(100.0, ge=0, description="Groups of an arm during which its gate is open.")


class GatedSec(sec.Sec):
    """SEC behind the gate; see the module."""

    config: Config
    num_scored: Floats
    spread: Floats

    def __init__(self, arms: Iterable[str], rng: np.random.Generator, config: Config) -> None:
        super().__init__(arms, rng, config)
        self.keep(num_scored=0.0, spread=SPREAD_AT_FIRST)
        self.names = [(f"fast_{h:g}", f"slow_{h:g}", h) for h in config.horizons]
        for fast, slow, _ in self.names:
            self.keep(**{fast: 0.0, slow: 0.0})

    def gate(self) -> Floats:
        """Share of each arm's reward that counts, [K] in [0, 1]."""
        share = np.minimum(1.0, (self.movement() / self.config.sure) ** 2)
        return np.where(self.num_scored <= self.config.grace, 1.0, share)

    def movement(self) -> Floats:
        """How far each arm's pass rate has moved, [K], in standard deviations of standing still; the larger horizon."""
        spread, num = np.maximum(self.spread, NEGLIGIBLE), np.maximum(self.num_scored, 1.0)
        moved = [
            np.abs(getattr(self, fast) - getattr(self, slow)) / np.sqrt(spread / np.minimum(3 * h, num))
            for fast, slow, h in self.names
        ]
        return np.asarray(np.max(moved, axis=0))

    def _counted(self, seen: Seen) -> Floats:
        told = ~np.isnan(seen.score)
        self._follow(seen.at[told], seen.score[told], seen.num_groups[told])
        return seen.reward * np.where(told, self.gate()[seen.at], 1.0)

    def _follow(self, at: NDArray[np.intp], score: Floats, num_groups: Floats) -> None:
        """Move the averages of the arms at these positions; all begin at the first score."""
        is_first = self.num_scored[at] == 0
        self.num_scored[at] += num_groups
        surprise = num_groups * (score - getattr(self, self.names[0][0])[at]) ** 2
        spread = self.spread[at] - np.expm1(-num_groups / SPREAD_HORIZON) * (surprise - self.spread[at])
        self.spread[at] = np.where(is_first, SPREAD_AT_FIRST, spread)
        for fast, slow, h in self.names:
            self._approach(fast, at, score, num_groups, h)
            self._approach(slow, at, getattr(self, fast)[at], num_groups, 2 * h)

    def _approach(
        self, name: str, at: NDArray[np.intp], target: Floats, num_groups: Floats, h: float
    ) -> None:
        """Move an average toward a target: as a plain mean at first, with the time constant h later."""
        rate = np.maximum(-np.expm1(-num_groups / h), num_groups / self.num_scored[at])
        average = getattr(self, name)
        average[at] += rate * (target - average[at])


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> GatedSec:
    """Make the bandit of a spec."""
    return GatedSec(arms, rng, config)
