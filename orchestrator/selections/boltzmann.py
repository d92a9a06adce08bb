"""Boltzmann choice of tasks: SEC with every task an arm of its own.

    P = softmax(Q / tau);   Q <- (1 - alpha) Q + alpha r  of a task played;   a share `floor` of the slots uniform

Source: the rule of arXiv 2505.14970 at the level of prompts, by a sum tree (curricula reference, 3.10).
Signal: any number, a group's mean |advantage|.
A task not played keeps its Q; one never played has Q = `start`. Weight (1 - alpha)^n after n plays.
Among a million tasks that were never played, exp(.5 / tau) is all that the best one weighs: at .1 as much as 148 of
them. Tasks of little interest are found by trying them, and each is tried once in a long while.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from orchestrator.bandits.contracts import Floats
from orchestrator.selections.contracts import Numbers, Positions, SelectionConfig, TaskResult
from orchestrator.selections.draws import SumTree
from orchestrator.selections.task_statistics import TaskStatistics, by_step

SOURCE = "arXiv 2505.14970"

FARTHEST = 50.0  # temperatures that a Q may be above the reference before all weights are set anew


class Config(SelectionConfig):
    type: Literal["boltzmann"] = "boltzmann"
    learning_rate: float = Field(0.5, gt=0, le=1, description="Step size alpha, per play of the task.")
    temperature: float = Field(0.1, gt=0, description="Of the choice, in units of the signal.")
    floor: float = Field(0.2, ge=0, le=1, description="Probability of a slot to be uniform over all tasks.")
    start: float = Field(0.25, description="Q of a task never played.")


class Boltzmann(TaskStatistics):
    """Boltzmann choice, by weights exp((Q - `reference`) / tau)."""

    saved = ("reference",)
    q: Floats

    def __init__(self, num_tasks: int, rng: np.random.Generator, config: Config) -> None:
        super().__init__(num_tasks, rng)
        self.config = config
        self.keep(q=config.start)
        self.reference = config.start
        self._tree = SumTree(self._weights(self.q))

    def draw(self, n: int) -> Positions:
        """Draw the uniform share, the others by weight; what the tree cannot give is uniform too."""
        num_sharp = n - self.rng.binomial(n, self.config.floor)
        sharp = self._tree.draw_distinct(num_sharp, self.rng)
        return np.concatenate([sharp, self._uniform(n - len(sharp), sharp)])

    def learn(self, tried: Sequence[TaskResult]) -> None:
        alpha = self.config.learning_rate
        for batch in by_step(tried):
            known = ~np.isnan(batch.signal)
            at = batch.at[known]
            self.q[at] = (1 - alpha) * self.q[at] + alpha * batch.signal[known]
            self.note(at)
            self._weigh(at)

    def load_state(self, state: Mapping[str, Any]) -> None:
        super().load_state(state)
        self._tree.rebuild(self._weights(self.q))

    def _weigh(self, at: Positions) -> None:
        """Set the weights of changed tasks, or all of them anew where they would leave the range of float64."""
        bound = self.num_tasks * np.exp(-FARTHEST)
        is_in_range = not (self.q[at] - self.reference > FARTHEST * self.config.temperature).any()
        if is_in_range:
            self._tree.set(at, self._weights(self.q[at]))
        if not is_in_range or self._tree.total < bound:
            self.reference = float(self.q.max())
            self._tree.rebuild(self._weights(self.q))

    def _weights(self, q: Floats) -> Floats:
        return np.asarray(np.exp((q - self.reference) / self.config.temperature))

    def _uniform(self, n: int, leave_out: Positions) -> Positions:
        """Draw n different tasks uniformly from those not in `leave_out`."""
        if 4 * (n + len(leave_out)) > self.num_tasks:
            others = np.setdiff1d(np.arange(self.num_tasks), leave_out, assume_unique=True)
            return self.rng.choice(others, n, replace=False)
        drawn = self.rng.choice(self.num_tasks, n + len(leave_out), replace=False)
        return drawn[~np.isin(drawn, leave_out)][:n]


def create(config: Config, num_tasks: int, rng: np.random.Generator, numbers: Numbers | None = None) -> Boltzmann:
    return Boltzmann(num_tasks, rng, config)
