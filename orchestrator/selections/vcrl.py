"""VCRL: places of groups that fell short in variance go to tasks from a memory of those that did not.

    score = v / v_max,  v = n p (1 - p) / (n - 1),  v_max = n / (4 (n - 1)) for even n, (n + 1) / (4 n) for odd n
    a task played with score >= kappa enters the memory;  there  priority <- m priority + (1 - m) score  at each play
    a batch: from the memory as many as the last one had below kappa, by priority; the rest from a shuffled epoch

Source: arXiv 2509.19803 (curricula reference, 4.7).
Score: in [0, 1], read as the pass rate p of n samples; of graded scores, p (1 - p) is the most their variance can be.
The paper drops the groups below kappa after they were played and fills the batch up from the memory; here a batch is
chosen before it is played, so the memory fills the same number of places in the next one. A task leaves the memory when
its priority falls below kappa, or when it is full and has better ones. The values of kappa (in the paper it may change
with time), of the memory's size and of its momentum, and drawing in proportion to priority: not verified.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from orchestrator.bandits.contracts import Floats
from orchestrator.selections.contracts import Numbers, Positions, Selection, SelectionConfig, TaskResult
from orchestrator.selections.cursor import Epochs, seed_from
from orchestrator.selections.draws import gumbel_top_k
from orchestrator.selections.task_statistics import TaskBuffer, by_step

SOURCE = "arXiv 2509.19803"


class Config(SelectionConfig):
    reads_signal: ClassVar[bool] = False

    type: Literal["vcrl"] = "vcrl"
    kappa: float = Field(0.3, gt=0, le=1, description="Least share of v_max of a task in the memory.")
    memory: int = Field(1000, ge=1, description="Tasks in the memory, at most.")
    momentum: float = Field(0.9, ge=0, lt=1, description="What stays of a priority at each play of its task.")


class Vcrl(Selection):
    saved = ("memory", "shortfall", "epochs")

    def __init__(self, num_tasks: int, rng: np.random.Generator, config: Config) -> None:
        super().__init__(num_tasks, rng)
        self.config = config
        self.memory = TaskBuffer("priority")
        self.shortfall = 0.0  # share of the latest batch that was below kappa
        self.epochs = Epochs(num_tasks, seed_from(rng))

    def draw(self, n: int) -> Positions:
        share = min(round(self.shortfall * n), len(self.memory))
        chosen = self.memory.at[gumbel_top_k(np.log(self.memory["priority"]), share, self.rng)]
        return np.concatenate([chosen, self.epochs.take(n - share, leave_out=chosen)])

    def learn(self, tried: Sequence[TaskResult]) -> None:
        m, kappa = self.config.momentum, self.config.kappa
        for batch in by_step(tried):
            measures = batch.num_samples > 1
            if not measures.any():
                continue
            at = batch.at[measures]
            scores = normalised_variance(batch.score[measures], batch.num_samples[measures])
            self.shortfall = float((scores < kappa).mean())
            priority, known = scores.copy(), self.memory.has(at)
            before = self.memory["priority"][np.searchsorted(self.memory.at, at[known])]
            priority[known] = m * before + (1 - m) * scores[known]
            self.memory.put(at, priority=priority)
            self.memory.only(self.memory["priority"] >= kappa)
            self.memory.at_most(self.config.memory, self.memory["priority"])


def normalised_variance(rate: Floats, num_samples: Floats) -> Floats:
    """v / v_max of n binary scores with mean `rate`; [S] each."""
    n = num_samples
    highest = np.where(n % 2 == 0, n / (4 * (n - 1)), (n + 1) / (4 * n))
    return np.asarray(n * rate * (1 - rate) / (n - 1) / highest)


def create(config: Config, num_tasks: int, rng: np.random.Generator, numbers: Numbers | None = None) -> Vcrl:
    return Vcrl(num_tasks, rng, config)
