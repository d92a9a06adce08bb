"""Self-Evolving Curriculum: Boltzmann choice over a constant-step estimate of each arm's mean |advantage|.

    P = softmax(Q / tau), then the floor;   Q_k <- alpha r_k + (1 - alpha) Q_k for every arm seen in the step

Source: arXiv 2505.14970, section 3 (TD(0) update and Boltzmann sampling), and its published code.
Reward: any number; an arm's groups of a step are averaged before its one update.
An arm not picked keeps its Q (the paper; `unsampled: keep`) or counts as having earned 0 (the published code;
`unsampled: decay`, which multiplies the estimate by how often the arm is visited).
An arm never seen has Q = `start`. A group without signal earns 0; one that could not be scored, nothing.
Weight (1 - alpha)^n after n steps in which the arm was seen: half-life 1 step at .5.

Guards of ours, all off by default (curricula reference, sections 2.6, 3.9 and 5.5):
- `effective_share` finds tau, at every pick, such that exp(entropy) of P before the floor is that share of the arms: no
  unit to tune.
- `gate: progress` multiplies r by min(1, |fast - slow| / .1), the distance of two averages of the arm's pass rate
  (steps .3 and .1, see `learning_progress`), from its fourth visit with a score: noise has a large |advantage|, but its
  pass rate does not move. `gated_sec` gates on the clock of groups.
- `stale_after: S` bounds neglect: P <- (1 - o / K) P + [k is overdue] / K, o arms being overdue, that is without a pick
  for S steps (a new arm at once). A batch of n slots then misses an overdue arm with probability (1 - 1 / K)^n at most
  (.0008 with 32 slots and 5 arms), and slots stay independent, as they would not with one set aside.
- `warm_step` makes the first steps of an arm those of a plain mean: alpha = max(learning_rate, 1 / visits).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from orchestrator.bandits.contracts import BanditConfig, Floats, Pick, StepFeedback
from orchestrator.bandits.learning_progress import PassRateAverages
from orchestrator.bandits.softmax import softmax, temperature_of

SOURCE = "arXiv 2505.14970"

GATE_FULL = 0.1  # distance of the averages, in pass rate, from which a reward counts in full
GATE_FAST, GATE_SLOW = 0.3, 0.1  # steps of the averages, per visit
GATE_GRACE = 3  # visits of an arm during which its gate is open


class Config(BanditConfig):
    """Options of SEC. Temperature .1 goes with the raw signal; .2 with the standardised one."""

    type: Literal["sec"] = "sec"
    learning_rate: float = Field(0.5, gt=0, le=1, description="Step size alpha of the estimate, per step.")
    temperature: float = Field(0.1, gt=0, description="Of the Boltzmann choice, in units of the signal.")
    floor: float = Field(0.2, ge=0, le=1, description="Total uniform mass F: P = (1 - F) P + F / K.")
    start: float = Field(0.0, ge=0, description="Q of an arm that was never seen.")
    unsampled: Literal["keep", "decay"] = Field(
        "keep", description="What happens to Q of an arm not picked in a step: kept, or moved toward 0."
    )
    effective_share: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Share of the arms that the choice is spread over, exp(entropy) / K before the floor: takes the "
        "place of `temperature`. Null: `temperature` as it is.",
    )
    gate: Literal["none", "progress"] = Field(
        "none", description="progress: a reward counts only as far as the arm's pass rate moves."
    )
    stale_after: int = Field(0, ge=0, description="Steps without a pick until an arm has 1 / K; 0: never.")
    warm_step: bool = Field(False, description="Step size of at least 1 / visits: the mean of first rewards.")


class Sec(PassRateAverages):
    q: Floats
    visits: Floats
    picked_by: Floats  # the step after the last pick; 0 before the first

    def __init__(self, arms: Iterable[str], rng: np.random.Generator, config: Config) -> None:
        super().__init__(arms, rng, config.floor)
        self.config = config
        self.keep(q=config.start)
        if config.stale_after:
            self.keep(picked_by=0.0)
        if config.warm_step:
            self.keep(visits=0.0)
        if config.gate == "progress":
            self.watch(GATE_FAST, GATE_SLOW)

    def preferences(self) -> Floats:
        share, tau = self.config.effective_share, self.config.temperature
        if share is not None:
            tau = temperature_of(self.q, share * len(self.q))
        preferences = softmax(self.q / tau)
        if not self.config.stale_after:
            return preferences
        overdue = self.clock - self.picked_by >= self.config.stale_after
        return np.asarray((1 - overdue.mean()) * preferences + overdue / len(overdue))

    def enter(self, places: NDArray[np.intp], probabilities: Floats) -> list[Pick]:
        picks = super().enter(places, probabilities)
        if self.config.stale_after:
            self.picked_by[places] = self.clock
        return picks

    def observe(self, seen: StepFeedback) -> None:
        alpha: float | Floats = self.config.learning_rate
        before = self.q[seen.at]
        if self.config.unsampled == "decay":
            self.q *= 1 - alpha
        if self.config.warm_step:
            self.visits[seen.at] += 1
            alpha = np.maximum(alpha, 1 / self.visits[seen.at])
        self.q[seen.at] = (1 - alpha) * before + alpha * self._counted(seen)

    def estimates(self) -> Floats:
        return self.q

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state; the numbers of a guard that was off when it was saved begin anew."""
        anew = {name: np.full(len(state["arms"]), start) for name, start in self._starts.items()}
        super().load_state({**anew, **state})

    def _counted(self, seen: StepFeedback) -> Floats:
        """Rewards after the gate."""
        if self.config.gate == "none":
            return seen.reward
        self.follow(seen)
        part = np.minimum(1.0, np.abs(self.progress()) / GATE_FULL)
        return seen.reward * np.where(self.num_scores <= GATE_GRACE, 1.0, part)[seen.at]


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> Sec:
    return Sec(arms, rng, config)
