"""MoPPS: Thompson sampling of pass rates, and the tasks whose rate looks nearest to one half.

    candidates: the next R B tasks of a shuffled epoch;  gamma ~ Beta(alpha, beta)
    played: the B candidates of smallest (gamma - gamma*)^2
    of a task played:  alpha <- lambda alpha + (1 - lambda) + n p,  beta <- lambda beta + (1 - lambda) + n (1 - p)

from alpha = beta = 1, with R = `candidates`, lambda = `keep`, gamma* = `target`. Source: arXiv 2507.04632, and its
published code (thu-rllab/MoPPS; curricula reference, 4.6).
Score: in [0, 1], read as the pass rate p of n samples.
A task not played keeps its posterior: only a play forgets, by the factor lambda. A task never played is uniform on
[0, 1]. It comes back as a candidate once an epoch, so the hopeless and the mastered are seldom played but never lost.
The published settings are R = 8 and lambda = .5 (Countdown, geometry), R = 16 and lambda = 1 (mathematics).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from orchestrator.bandits.contracts import Floats
from orchestrator.selections.contracts import Numbers, Positions, SelectionConfig, TaskResult
from orchestrator.selections.cursor import Epochs, seed_from
from orchestrator.selections.draws import smallest
from orchestrator.selections.task_statistics import TaskStatistics, by_step

SOURCE = "arXiv 2507.04632"


class Config(SelectionConfig):
    reads_signal: ClassVar[bool] = False

    type: Literal["mopps"] = "mopps"
    candidates: int = Field(8, ge=1, description="R: candidates per task played; 1: the shuffled epoch.")
    keep: float = Field(0.5, ge=0, le=1, description="lambda: what stays of a posterior at a play; 1: all.")
    target: float = Field(0.5, ge=0, le=1, description="The pass rate to be near to.")
    interval: tuple[float, float] | None = Field(
        None,
        description="Play tasks at random out of those inside, say [0.3, 0.7], and fill up with the nearest; "
        "null: go by the target.",
    )

    @field_validator("interval")
    @classmethod
    def _interval_goes_up(cls, interval: tuple[float, float] | None) -> tuple[float, float] | None:
        if interval is not None and not 0 <= interval[0] < interval[1] <= 1:
            raise ValueError("an interval goes up, from a pass rate to another")
        return interval


class Mopps(TaskStatistics):
    saved, comes_once = ("epochs",), True
    a: Floats
    b: Floats

    def __init__(self, num_tasks: int, rng: np.random.Generator, config: Config) -> None:
        super().__init__(num_tasks, rng)
        self.config = config
        self.keep(a=1.0, b=1.0)
        self.epochs = Epochs(num_tasks, seed_from(rng))

    def draw(self, n: int) -> Positions:
        candidates = self.epochs.take(min(self.config.candidates * n, self.num_tasks))
        rates = self.rng.beta(self.a[candidates], self.b[candidates])
        return candidates[smallest(self._misfit(rates), n, self.rng)]

    def learn(self, tried: Sequence[TaskResult]) -> None:
        keep = self.config.keep
        for batch in by_step(tried):
            at, successes = batch.at, batch.num_samples * batch.score
            self.a[at] = keep * self.a[at] + (1 - keep) + successes
            self.b[at] = keep * self.b[at] + (1 - keep) + batch.num_samples - successes
            self.note(at)

    def _misfit(self, rates: Floats) -> Floats:
        """Distance of pass rates from the target, or from the interval: 0 inside it, where chance decides."""
        if self.config.interval is None:
            return np.square(rates - self.config.target)
        low, high = self.config.interval
        return np.maximum(0.0, np.maximum(low - rates, rates - high))


def create(config: Config, num_tasks: int, rng: np.random.Generator, numbers: Numbers | None = None) -> Mopps:
    return Mopps(num_tasks, rng, config)
