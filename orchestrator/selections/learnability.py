"""Learnability: a share of every batch from the tasks that are solved about half of the time, the rest at random.

    score = p (1 - p) n / (n - 1);   every `refresh` steps:  buffer = the `size` tasks of highest score
    a slot is drawn from the buffer with probability rho, otherwise it is the next task of a shuffled epoch

Source: Sampling for Learnability, arXiv 2408.15099 (curricula reference, 4.10).
Score: in [0, 1], read as the pass rate p of the n samples of a task's latest group; n / (n - 1) removes its bias.
A task never played has no score and comes by the random share; one not played keeps its score.
The paper measures a large random set of tasks by episodes of its own before each refresh; here the groups of training
are the measurement, so rho must stay below 1. The defaults of rho and `refresh` are our own; those of the paper are not
verified (a library has a buffer of 1000 and rho = 1). Scores take few values: chance breaks their ties.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from orchestrator.bandits.contracts import Floats
from orchestrator.selections.contracts import Numbers, Positions, SelectionConfig, TaskResult
from orchestrator.selections.cursor import Epochs, seed_from
from orchestrator.selections.draws import smallest
from orchestrator.selections.task_statistics import TaskStatistics, by_step

SOURCE = "arXiv 2408.15099"


class Config(SelectionConfig):
    reads_signal: ClassVar[bool] = False

    type: Literal["learnability"] = "learnability"
    size: int = Field(1000, ge=1, description="Tasks in the buffer, at most.")
    rho: float = Field(0.5, ge=0, lt=1, description="Chance of a slot to be drawn from the buffer.")
    refresh: int = Field(20, ge=1, description="Steps of the category between choices of the buffer.")


class Learnability(TaskStatistics):
    saved = ("buffer", "refreshed", "epochs")
    worth: Floats

    def __init__(self, num_tasks: int, rng: np.random.Generator, config: Config) -> None:
        super().__init__(num_tasks, rng)
        self.config = config
        self.keep(worth=0.0)
        self.buffer: Positions = np.empty(0, np.int64)
        self.refreshed = 0  # the step in which the buffer was chosen
        self.epochs = Epochs(num_tasks, seed_from(rng))

    def draw(self, n: int) -> Positions:
        if self.clock - self.refreshed >= self.config.refresh:
            measured = np.flatnonzero(self.worth > 0)
            self.buffer = measured[smallest(-self.worth[measured], self.config.size, self.rng)]
            self.refreshed = self.clock
        share = min(self.rng.binomial(n, self.config.rho), len(self.buffer))
        chosen = self.rng.choice(self.buffer, share, replace=False)
        return np.concatenate([chosen, self.epochs.take(n - share, leave_out=chosen)])

    def learn(self, tried: Sequence[TaskResult]) -> None:
        for batch in by_step(tried):
            measures = batch.num_samples > 1
            at, n, p = batch.at[measures], batch.num_samples[measures], batch.score[measures]
            self.worth[at] = p * (1 - p) * n / (n - 1)
            self.note(at)


def create(config: Config, num_tasks: int, rng: np.random.Generator, numbers: Numbers | None = None) -> Learnability:
    return Learnability(num_tasks, rng, config)
