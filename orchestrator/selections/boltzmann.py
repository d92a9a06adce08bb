"""Boltzmann choice of tasks: SEC with every task an arm of its own.

    P = softmax(Q / temperature);   Q <- (1 - a) Q + a r  of a task played;   a share `floor` of the slots uniform

Source: the rule of arXiv 2505.14970 at the level of prompts, by a sum tree (curricula reference, 3.10).
Signal: any number, a group's mean |advantage|.
A task not played keeps its Q; one never played has Q = `start`. It forgets with weight (1 - a)^n after n plays.
Among a million tasks that were never played, exp(.5 / temperature) is all that the best one weighs: at .1 as much as
148 of them. Tasks of little interest are found by trying them, and each is tried once in a long while.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from orchestrator.bandits.contracts import Floats
from orchestrator.selections.contracts import Numbers, Positions, SelectionConfig, TaskResult
from orchestrator.selections.sampling import SumTree
from orchestrator.selections.task_statistics import TaskStatistics, by_step

SOURCE = "arXiv 2505.14970"

FARTHEST = 50.0  # temperatures that a Q may be above the reference before the weights are taken anew


class Config(SelectionConfig):
    """Options of the Boltzmann choice."""

    type: Literal["boltzmann"] = "boltzmann"
    learning_rate: float = Field(
        0.5, gt=0, le=1, description="Step size a of the estimate, per play of the task."
    )
    temperature: float = Field(0.1, gt=0, description="Of the choice, in units of the signal.")
    floor: float = Field(
        0.2, ge=0, le=1, description="Chance of a slot to be drawn uniformly from all tasks."
    )
    start: float = Field(0.25, description="Q of a task never played.")


class Boltzmann(TaskStatistics):
    """Boltzmann choice; see the module. Weights are exp((Q - `reference`) / temperature)."""

    q: Floats

    def __init__(self, num_tasks: int, rng: np.random.Generator, config: Config) -> None:
        super().__init__(num_tasks, rng)
        self.config = config
        self.keep(q=config.start)
        self.reference = config.start
        self._tree = SumTree(self._weights(self.q))

    def draw(self, n: int) -> Positions:
        """Draw the uniform share, then the others by weight; what the tree cannot give is uniform too."""
        num_sharp = n - self.rng.binomial(n, self.config.floor)
        sharp = self._tree.draw_distinct(num_sharp, self.rng)
        return np.concatenate([sharp, self._uniform(n - len(sharp), sharp)])

    def learn(self, tried: Sequence[TaskResult]) -> None:
        """Move Q toward the signals."""
        a = self.config.learning_rate
        for shown in by_step(tried):
            told = ~np.isnan(shown.signal)
            at = shown.at[told]
            self.q[at] = (1 - a) * self.q[at] + a * shown.signal[told]
            self.note(at)
            self._weigh(at)

    def state(self) -> dict[str, Any]:
        """Add what the weights are relative to, so that they are the same to the last bit."""
        return {**super().state(), "reference": self.reference}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue."""
        super().load_state(state)
        self.reference = state["reference"]
        self._tree.rebuild(self._weights(self.q))

    def _weigh(self, at: Positions) -> None:
        """Follow changes of Q; all weights are taken anew where they would get out of reach of float64."""
        bound = self.num_tasks * np.exp(-FARTHEST)
        if (self.q[at] - self.reference > FARTHEST * self.config.temperature).any():
            self._refer()
            return
        self._tree.set(at, self._weights(self.q[at]))
        if self._tree.total < bound:
            self._refer()

    def _refer(self) -> None:
        self.reference = float(self.q.max())
        self._tree.rebuild(self._weights(self.q))

    def _weights(self, q: Floats) -> Floats:
        weights: Floats = np.exp((q - self.reference) / self.config.temperature)
        return weights

    def _uniform(self, n: int, leave_out: Positions) -> Positions:
        """Draw n different tasks uniformly from those not in `leave_out`, with few tries where there are many."""
        if 4 * (n + len(leave_out)) > self.num_tasks:
            others = np.setdiff1d(np.arange(self.num_tasks), leave_out, assume_unique=True)
            return self.rng.choice(others, n, replace=False)
        drawn = self.rng.choice(self.num_tasks, n + len(leave_out), replace=False)
        return drawn[~np.isin(drawn, leave_out)][:n]


def create(
    config: Config, num_tasks: int, rng: np.random.Generator, numbers: Numbers | None = None
) -> Boltzmann:
    """Make the selection of a spec."""
    return Boltzmann(num_tasks, rng, config)
