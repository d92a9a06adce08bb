"""BOTS: a posterior of every task's pass rate that other tasks' outcomes also move, and the tasks nearest to a target.

    every step, every task:  a <- (1 - lambda) a + lambda + s,  b <- (1 - lambda) b + lambda + f,  from a = b = 1, with
    s = m p,      f = m (1 - p)        of a task played with pass rate p: as m samples, however many there were
    s = rho m q,  f = rho m (1 - q)    of every other one: q = clip(weak + c (strong - weak), 0, 1)
    c: moving average (.9) of (mean p - mean weak) / (mean strong - mean weak) over the tasks played
    score = -|target - a / (a + b)|;   temperature 0: the best, otherwise drawn without replacement by softmax

with lambda = `forget`, rho = `share`, m = `samples`. Source: agentscope-ai/Trinity-RFT, its difficulty estimator and
selector (curricula reference, 4.6).
Score: in [0, 1], read as the pass rate p.
`weak` and `strong` name the pass rates that two reference models have on each task. Without them, and on a task that
has none, rho is 0: what is not played drifts back to a = b = 1, as a task never played. With the target at one half
those are then the best there are, so a large category is played through at random.
With references the state holds every task, since each changes in every step.
It forgets at the rate lambda a step (a step of its category), played or not. The published selector aims at 1 with
temperature 1 by default; here the target is .5, where a group has most to teach, and the best are taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from orchestrator.bandits.contracts import Floats
from orchestrator.selections.contracts import Numbers, Positions, SelectionConfig, TaskResult
from orchestrator.selections.draws import gumbel_top_k, smallest, smallest_beside
from orchestrator.selections.task_statistics import BatchOutcomes, TaskStatistics, by_step

SOURCE = "Trinity-RFT"

SMALLEST_SCALE = 1e-100  # of the common factor, before it is multiplied into all numbers
SAME = 1e-6  # reference models that are no further apart say nothing about ability
MEMORY = 0.9  # of the moving average of c, per step
EVERYTHING = slice(None)


class Config(SelectionConfig):
    reads_signal: ClassVar[bool] = False

    type: Literal["bots"] = "bots"
    forget: float = Field(0.2, ge=0, le=1, description="lambda: share of a posterior that fades in a step.")
    share: float = Field(0.2, ge=0, le=1, description="rho: weight of the references for tasks not played.")
    samples: float = Field(16, gt=0, description="m: samples that one play of a task counts for.")
    target: float = Field(0.5, ge=0, le=1, description="The pass rate to be near to.")
    temperature: float = Field(0.0, ge=0, description="Of the choice, in units of pass rate; 0: the best.")
    weak: str | None = Field(
        None, description="Field with a weak model's pass rate on each task, in [0, 1]; null: not known."
    )
    strong: str | None = Field(None, description="Field with a strong model's; both, or null for neither.")

    @model_validator(mode="after")
    def _references_come_in_pairs(self) -> Self:
        if (self.weak is None) != (self.strong is None):
            raise ValueError("`weak` and `strong` go together: give both, or neither")
        return self

    @property
    def fields(self) -> Mapping[str, str]:
        return {} if self.weak is None or self.strong is None else {"weak": self.weak, "strong": self.strong}


@dataclass(frozen=True)
class References:
    """Pass rates of two models on every task: arrays [N], 0 where not known."""

    is_known: NDArray[np.bool_]
    weak: Floats
    gap: Floats  # strong - weak

    @classmethod
    def of(cls, weak: Floats, strong: Floats) -> References:
        """From the data, NaN where missing."""
        for name, rates in (("weak", weak), ("strong", strong)):
            if ((rates < 0) | (rates > 1)).any():
                raise ValueError(f"`{name}` names a field whose numbers are no pass rates: not all are in [0, 1]")
        is_known = np.isfinite(strong - weak)
        return cls(is_known, np.where(is_known, weak, 0.0), np.where(is_known, strong - weak, 0.0))


class Bots(TaskStatistics):
    """BOTS, with a = 1 + `scale` * `successes` and b likewise, so that one number makes all posteriors fade.

    Without references a step costs as much as the tasks played; with them O(N), in arrays allocated once.
    """

    saved = ("scale", "now", "ability")
    successes: Floats
    failures: Floats

    def __init__(
        self, num_tasks: int, rng: np.random.Generator, config: Config, references: References | None = None
    ) -> None:
        super().__init__(num_tasks, rng)
        self.config, self.references = config, references
        self.keep(successes=0.0, failures=0.0)
        self._scratch = np.empty((2, num_tasks))  # for large results
        self.scale = 1.0
        self.now = -1  # the latest step learned from
        self.ability: float | None = None  # c

    def posterior(self) -> tuple[Floats, Floats]:
        """a and b of every task, [N] each."""
        return 1 + self.scale * self.successes, 1 + self.scale * self.failures

    def expected(self, at: Positions | slice = EVERYTHING, scratch: Floats | None = None) -> Floats:
        """a / (a + b), of every task or of some; in the first row of `scratch` [2, M] if given."""
        successes, prior = self.successes[at], 1 / self.scale  # a and b divided by the scale
        rates, samples = (None, None) if scratch is None else scratch
        rates = np.add(successes, prior, out=rates)
        samples = np.add(successes, self.failures[at], out=samples)
        samples += 2 * prior
        rates /= samples
        return rates

    def draw(self, n: int) -> Positions:
        if self.config.temperature > 0:
            return gumbel_top_k(self._distances() / -self.config.temperature, n, self.rng)
        if self.references is not None:
            return smallest(self._distances(), n, self.rng)
        tried, target = self.tried, self.config.target  # all others are expected at one half
        distances = np.abs(self.expected(tried) - target)
        return smallest_beside(tried, distances, abs(0.5 - target), self.num_tasks, n, self.rng)

    def learn(self, tried: Sequence[TaskResult]) -> None:
        for batch in by_step(tried):
            is_new = batch.step > self.now
            self._fade(max(0, batch.step - self.now))
            self.now = max(self.now, batch.step)
            weight = self.config.samples * (1 - self.config.forget) ** (self.now - batch.step)
            self.successes[batch.at] += weight * batch.score / self.scale
            self.failures[batch.at] += weight * (1 - batch.score) / self.scale
            self.note(batch.at)
            if self.references is not None:
                self._place_between(self.references, batch)
                if is_new:
                    self._move_others(self.references, batch.at)

    def _distances(self) -> Floats:
        """Distance of every task's expected pass rate from the target, in the scratch array."""
        distances = self.expected(scratch=self._scratch)
        distances -= self.config.target
        return np.abs(distances, out=distances)

    def _fade(self, steps: int) -> None:
        self.scale *= (1 - self.config.forget) ** steps
        if self.scale < SMALLEST_SCALE:
            self.successes *= self.scale
            self.failures *= self.scale
            self.scale = 1.0

    def _place_between(self, references: References, batch: BatchOutcomes) -> None:
        """Update c, the policy's place between the reference models."""
        known = references.is_known[batch.at]
        at = batch.at[known]
        gap = references.gap[at].mean() if len(at) else 0.0
        if abs(gap) < SAME:
            return
        found = float((batch.score[known] - references.weak[at]).mean() / gap)
        self.ability = found if self.ability is None else MEMORY * self.ability + (1 - MEMORY) * found

    def _move_others(self, references: References, played: Positions) -> None:
        """Add s and f of the tasks that were not played."""
        if self.ability is None:
            return
        passed, failed = self._scratch
        np.multiply(references.gap, self.ability, out=passed)
        passed += references.weak
        np.clip(passed, 0.0, 1.0, out=passed)
        np.subtract(references.is_known, passed, out=failed)
        weight = self.config.share * self.config.samples / self.scale
        for numbers, added in ((self.successes, passed), (self.failures, failed)):
            added *= weight
            added[played] = 0.0
            numbers += added
        self._is_tried |= references.is_known


def create(config: Config, num_tasks: int, rng: np.random.Generator, numbers: Numbers | None = None) -> Bots:
    references = References.of(**numbers) if numbers else None
    return Bots(num_tasks, rng, config, references)
