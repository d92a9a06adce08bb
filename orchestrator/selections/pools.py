"""Easy, normal and hard: every task in the pool of its last score, each pool drawn from by its weight.

    hard: score <= .25;  normal: score <= .75;  easy: above;  unseen: no score yet;   P ~ weight of the pool

Source: PrimeIntellect-ai/prime-rl, its sampler of tasks (curricula reference, 4.9).
Score: in [0, 1], the mean of the task's latest group; of late ones, the one played later counts.
A task not played stays in its pool; an unseen one has the weight `unseen`.
The published sampler draws a batch with replacement, here no task comes twice in a batch. Its older versions moved
tasks one way and could run a pool empty: here a task's pool follows from its last score, and no weight may be 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from orchestrator.bandits.contracts import Floats
from orchestrator.selections.contracts import Numbers, Positions, SelectionConfig, TaskResult
from orchestrator.selections.draws import SumTree
from orchestrator.selections.task_statistics import TaskStatistics, by_step

SOURCE = "prime-rl"


class Config(SelectionConfig):
    """Options of the pools. Weights are of one task, not of a whole pool."""

    reads_signal: ClassVar[bool] = False

    type: Literal["pools"] = "pools"
    hard: float = Field(0.2, gt=0, description="Weight of a task whose last score is at most `hard_to`.")
    normal: float = Field(1.0, gt=0, description="Weight of a task between hard and easy.")
    easy: float = Field(0.2, gt=0, description="Weight of a task whose last score is above `normal_to`.")
    unseen: float = Field(1.0, gt=0, description="Weight of a task without a score yet.")
    hard_to: float = Field(0.25, ge=0, lt=1, description="Highest mean score of a hard task.")
    normal_to: float = Field(0.75, ge=0, lt=1, description="Highest mean score of a normal task.")

    @model_validator(mode="after")
    def _pools_are_in_order(self) -> Self:
        if self.normal_to < self.hard_to:
            raise ValueError("`normal_to` must not be below `hard_to`")
        return self


class Pools(TaskStatistics):
    score: Floats
    step: Floats  # when the score was played for

    def __init__(self, num_tasks: int, rng: np.random.Generator, config: Config) -> None:
        super().__init__(num_tasks, rng)
        self.config = config
        self.keep(score=0.0, step=-1.0)
        self._tree = SumTree(np.full(num_tasks, config.unseen))

    def probabilities(self) -> Floats:
        """Probability of each task to be the first of a batch, [N]."""
        return self._tree.weights / self._tree.total

    def draw(self, n: int) -> Positions:
        return self._tree.draw_distinct(n, self.rng)

    def learn(self, tried: Sequence[TaskResult]) -> None:
        for batch in by_step(tried):
            newer = batch.step >= self.step[batch.at]
            at = batch.at[newer]
            self.score[at], self.step[at] = batch.score[newer], batch.step
            self.note(at)
            self._tree.set(at, self._weights(at))

    def load_state(self, state: Mapping[str, Any]) -> None:
        super().load_state(state)
        weights = np.full(self.num_tasks, self.config.unseen)
        weights[self.tried] = self._weights(self.tried)
        self._tree.rebuild(weights)

    def _weights(self, at: Positions) -> Floats:
        """Weights of tasks that have a score."""
        own = self.config
        pool = np.searchsorted([own.hard_to, own.normal_to], self.score[at], side="left")
        return np.array([own.hard, own.normal, own.easy])[pool]


def create(config: Config, num_tasks: int, rng: np.random.Generator, numbers: Numbers | None = None) -> Pools:
    return Pools(num_tasks, rng, config)
