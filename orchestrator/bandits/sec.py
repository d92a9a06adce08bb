"""Self-Evolving Curriculum: Boltzmann choice over a constant-step estimate of each arm's mean |advantage|.

    P = softmax(Q / temperature), then the floor;   Q[k] <- (1 - a) Q[k] + a r[k] for every arm seen in the step

Source: arXiv 2505.14970, section 3 (TD(0) update and Boltzmann sampling), and its published code.
Reward: any number; the step averages an arm's groups before its one update.
An arm that was not picked keeps its Q (the paper; `unsampled: keep`) or is treated as having earned 0 (the
published code; `unsampled: decay`, which multiplies the estimate by how often the arm is visited).
An arm never seen has Q = `start`. A group without signal earns 0; a group that could not be scored, nothing.
It forgets with weight (1 - learning_rate)^n after n steps in which the arm was seen: half-life 1 step at .5.

Guards of ours, all off by default (curricula reference, sections 2.6 and 3.9):
- `effective_share` finds the temperature, at every pick, at which exp(entropy) of P before the floor is that share of
  the arms: no unit to tune.
- `gate: progress` multiplies r by min(1, |fast - slow| / .1), the distance of two averages of the arm's pass rate
  (module `progress`; steps .3 and .1), from its fourth visit with a score: noise has a large |advantage|, but its pass
  rate stays where it is. `gated_sec` is another form of it, on the clock of groups.
- `stale_after` bounds how long an arm goes unpicked (module `staleness`).
- `warm_step` makes the first steps of an arm those of a plain mean: a = max(learning_rate, 1 / visits).

MERGED:
A bound on neglect: an arm that was not picked for S steps is drawn at least as often as under uniform choice.

    P <- (1 - o / K) P + [k is overdue] / K,  o of the K arms overdue

From then until it is picked an overdue arm has 1 / K, so a batch of n slots misses it with probability (1 - 1 / K)^n at
most (.0008 with 32 slots and 5 arms), and where all are overdue the choice is uniform. The slots stay independent and
the recorded probability is the one drawn with, which a slot set aside for the arm would not allow. Curricula
reference, sections 2.6 and 5.5.

"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from orchestrator.bandits.contracts import Bandit, BanditConfig, Floats, Pick, StepFeedback
from orchestrator.bandits.learning_progress import PassRateAverages
from orchestrator.bandits.softmax import softmax, temperature_of


class Staleness(Bandit):
    """Keeps `picked_by`, the step after each arm's last pick; a rule calls `revisit` once and mixes by `with_overdue`.

    An arm never picked counts from step 0, so one that joins late is overdue at once.
    """

    picked_by: Floats
    _stale_after = 0

    def revisit(self, stale_after: int) -> None:
        """Begin to note picks; after 0 steps: never. Called in `__init__`, after that of the base class."""
        self._stale_after = stale_after
        if stale_after:
            self.keep(picked_by=0.0)

    def enter(self, places: NDArray[np.intp], probabilities: Floats) -> list[Pick]:
        """Note when each arm was picked."""
        picks = super().enter(places, probabilities)
        if self._stale_after:
            self.picked_by[places] = self.clock
        return picks

    def overdue(self) -> NDArray[np.bool_]:
        """Which arms were not picked for so many steps, [K]."""
        return self.clock - self.picked_by >= self._stale_after

    def with_overdue(self, preferences: Floats) -> Floats:
        """Give overdue arms their uniform share, [K]."""
        if not self._stale_after:
            return preferences
        overdue = self.overdue()
        mixed: Floats = (1 - overdue.mean()) * preferences + overdue / len(overdue)
        return mixed


SOURCE = "arXiv 2505.14970"

GATE_FULL = 0.1  # distance of the averages, in pass rate, from which a reward counts in full
GATE_FAST, GATE_SLOW = 0.3, 0.1  # steps of the averages, per visit
GATE_GRACE = 3  # visits of an arm during which its gate is open


class Config(BanditConfig):
    """Options of SEC. Temperature .1 goes with the raw signal; .2 with the standardised one."""

    type: Literal["sec"] = "sec"
    learning_rate: float = Field(0.5, gt=0, le=1, description="Step size a of the estimate, per step.")
    temperature: float = Field(0.1, gt=0, description="Of the Boltzmann choice, in units of the signal.")
    floor: float = Field(0.2, ge=0, le=1, description="Total uniform mass F mixed in: P = (1 - F) P + F / K.")
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
    stale_after: int = Field(
        0, ge=0, description="Steps without a pick after which an arm has its uniform share 1 / K; 0: never."
    )
    warm_step: bool = Field(
        False, description="Begin each arm with the mean of its rewards: step size 1 / visits at least."
    )


class Sec(PassRateAverages, Staleness):
    """SEC; see the module."""

    q: Floats
    visits: Floats

    def __init__(self, arms: Iterable[str], rng: np.random.Generator, config: Config) -> None:
        super().__init__(arms, rng, config.floor)
        self.config = config
        self.keep(q=config.start)
        self.revisit(config.stale_after)
        if config.warm_step:
            self.keep(visits=0.0)
        if config.gate == "progress":
            self.watch(GATE_FAST, GATE_SLOW)

    def preferences(self) -> Floats:
        """softmax(Q / temperature), and what overdue arms are due."""
        share = self.config.effective_share
        temperature = (
            self.config.temperature if share is None else temperature_of(self.q, share * len(self.q))
        )
        return self.with_overdue(softmax(self.q / temperature))

    def observe(self, seen: StepFeedback) -> None:
        """Move Q toward the step's rewards."""
        moved = self.q.copy()
        if self.config.unsampled == "decay":
            moved = (1 - self.config.learning_rate) * self.q
        a = self._step(seen)
        moved[seen.at] = (1 - a) * self.q[seen.at] + a * self._counted(seen)
        self.q = moved

    def values(self) -> dict[str, float | None]:
        """Q of every arm."""
        return {**self.by_arm(self.q)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state; what a guard notes that was off when it was saved begins anew."""
        anew = {name: dict.fromkeys(state["arms"], start) for name, start in self._starts.items()}
        super().load_state({**anew, **state})

    def _step(self, seen: StepFeedback) -> float | Floats:
        """Step size of the arms that were seen."""
        if not self.config.warm_step:
            return self.config.learning_rate
        self.visits[seen.at] += 1
        return np.maximum(self.config.learning_rate, 1 / self.visits[seen.at])

    def _counted(self, seen: StepFeedback) -> Floats:
        """Rewards as far as they count."""
        if self.config.gate == "none":
            return seen.reward
        self.follow(seen)
        part = np.minimum(1.0, np.abs(self.progress()) / GATE_FULL)
        return seen.reward * np.where(self.num_scores <= GATE_GRACE, 1.0, part)[seen.at]


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> Sec:
    """Make the bandit of a spec."""
    return Sec(arms, rng, config)
