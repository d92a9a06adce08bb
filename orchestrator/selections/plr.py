"""Prioritised level replay: seen tasks again by the rank of what they taught, and by how long ago that was.

    P_replay = (1 - rho) P_S + rho P_C;   P_S ~ rank^(-1 / beta), rank 1 the highest score;   P_C ~ steps since played
    a slot replays with probability min(seen / capacity, replay), else it is the next unseen task of a shuffled epoch

Source: arXiv 2010.03934, and its published code (facebookresearch/level-replay; curricula reference, 5.5).
Signal: any number, here a group's mean |advantage|; a task's score is its latest one.
Only tasks that were played with a signal are replayed. A task not played keeps its score and becomes staler; at
beta = .1 the top rank has 99.9 % of P_S, and staleness is what brings the others back. Equal scores share the sum of
their ranks' probabilities. The buffer is bounded: what has the least P_replay leaves it, and counts as unseen.
When replay begins follows a port (Syllabus), with the filled share of the buffer's capacity in place of the seen share
of all tasks, which a million tasks would never reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from orchestrator.bandits.contracts import Floats
from orchestrator.bandits.softmax import softmax
from orchestrator.selections.contracts import Numbers, Positions, Selection, SelectionConfig, TaskResult
from orchestrator.selections.cursor import Epochs, seed_from
from orchestrator.selections.draws import gumbel_top_k
from orchestrator.selections.task_statistics import TaskBuffer, by_step

SOURCE = "arXiv 2010.03934"


class Config(SelectionConfig):
    type: Literal["plr"] = "plr"
    beta: float = Field(0.1, gt=0, description="Temperature of the ranks: low favours the top ranks.")
    rho: float = Field(0.1, ge=0, le=1, description="Share of staleness in the probabilities of replay.")
    replay: float = Field(0.5, ge=0, lt=1, description="Highest probability of a slot to replay a seen task.")
    buffer: int = Field(4096, ge=1, description="Seen tasks that are remembered, at most.")


class Plr(Selection):
    saved = ("seen", "epochs")

    def __init__(self, num_tasks: int, rng: np.random.Generator, config: Config) -> None:
        super().__init__(num_tasks, rng)
        self.config = config
        self.seen = TaskBuffer("score", "last")  # last: the step in which it was last chosen
        self.capacity = min(config.buffer, num_tasks)
        self.epochs = Epochs(num_tasks, seed_from(rng))

    def draw(self, n: int) -> Positions:
        chance = min(len(self.seen) / self.capacity, self.config.replay)
        num_new = n - min(self.rng.binomial(n, chance), len(self.seen))
        new = self.epochs.take(num_new, leave_out=self.seen.at)  # fewer, where few are unseen
        with np.errstate(divide="ignore"):
            places = gumbel_top_k(np.log(self.chances()), n - len(new), self.rng)
        self.seen["last"][places] = self.clock
        return np.concatenate([self.seen.at[places], new])

    def learn(self, tried: Sequence[TaskResult]) -> None:
        for batch in by_step(tried):
            compares = ~np.isnan(batch.signal)
            at, signal = batch.at[compares], batch.signal[compares]
            last = np.full(len(at), float(batch.step))
            known = self.seen.has(at)
            earlier = self.seen["last"][np.searchsorted(self.seen.at, at[known])]
            last[known] = np.maximum(last[known], earlier)  # it may have been chosen again meanwhile
            self.seen.put(at, score=signal, last=last)
        self.seen.at_most(self.capacity, self.chances())

    def chances(self) -> Floats:
        """P_replay of every seen task, [M]."""
        staleness = np.maximum(0.0, self.clock - 1 - self.seen["last"])
        return replay_chances(self.seen["score"], staleness, self.config.beta, self.config.rho)


def replay_chances(scores: Floats, staleness: Floats, beta: float, rho: float) -> Floats:
    """P_replay [M]; without any staleness all tasks are equally stale."""
    if not len(scores):
        return np.empty(0)
    by_rank = rank_chances(scores, beta)
    total = staleness.sum()
    by_staleness = staleness / total if total > 0 else np.full(len(scores), 1 / len(scores))
    return (1 - rho) * by_rank + rho * by_staleness


def rank_chances(scores: Floats, beta: float) -> Floats:
    """P_S [M]; equal scores have the mean of their ranks' probabilities."""
    order = np.argsort(-scores, kind="stable")
    by_rank = softmax(-np.log(np.arange(1, len(scores) + 1)) / beta)
    _, group = np.unique(-scores[order], return_inverse=True)
    shared = np.bincount(group, weights=by_rank) / np.bincount(group)
    chances = np.empty(len(scores))
    chances[order] = shared[group]
    return chances


def create(config: Config, num_tasks: int, rng: np.random.Generator, numbers: Numbers | None = None) -> Plr:
    return Plr(num_tasks, rng, config)
