"""Index rules: the arm with the highest optimistic estimate, and a batch that is filled slot by slot.

    index_k = mean_k + scale / sqrt(N_k)

A plain argmax would give all slots of a batch to one arm. So slots are filled in turn with virtual counts: an arm that
gets a slot has its N raised by 1 and keeps its mean, so only its bonus shrinks; all else waits for `learn`. An arm
without data comes before all others and, with its first slot, has the pooled mean of all arms (an optimistic constant
would let it take the whole batch). Ties are shared uniformly at random; with floor f a slot is uniform with probability
f. The recorded probability of a slot is conditional on the slots before it. Curricula reference, section 3.0.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from orchestrator.bandits.contracts import Bandit, Floats
from orchestrator.bandits.softmax import normalised


class Board(Protocol):
    """Indices of the arms while a batch is filled."""

    def best(self) -> Sequence[int]:
        """Arms that share the highest index."""

    def give(self, arm: int) -> None:
        """Count a slot for an arm."""


def fill(
    board: Board, n: int, num_arms: int, floor: float, rng: np.random.Generator
) -> tuple[NDArray[np.intp], Floats]:
    """Fill n slots in turn, one random number each: arms [n], and the probability of each draw [n]."""
    places, chances = np.empty(n, np.intp), np.empty(n)
    for slot, u in enumerate(rng.random(n).tolist()):
        best = board.best()
        share = (1 - floor) / len(best)
        if u < floor:
            arm = min(int(u / floor * num_arms), num_arms - 1)
            share *= arm in best
        else:
            arm = best[min(int((u - floor) / (1 - floor) * len(best)), len(best) - 1)]
        board.give(arm)
        places[slot], chances[slot] = arm, share + floor / num_arms
    return places, chances


class Buckets:
    """A board for indices that depend on the arm's own count alone: a heap of the different indices.

    An index never grows while a batch is filled, so it holds only the n arms that are highest at the start, with ties.
    """

    def __init__(self, mean: Floats, count: Floats, scale: float, n: int) -> None:
        index = indices(mean, count, scale)
        least = np.partition(index, -n)[-n] if n < len(index) else -math.inf
        on = np.flatnonzero(index >= least)
        self._scale = scale
        self._mean = dict(zip(on.tolist(), pooled(mean, count)[on].tolist(), strict=True))
        self._count = dict(zip(on.tolist(), count[on].tolist(), strict=True))
        self._index: dict[int, float] = {}
        self._at: dict[int, int] = {}  # an arm's position in its bucket
        self._arms: dict[float, list[int]] = {}  # the buckets: arms by index
        for arm, value in zip(on.tolist(), index[on].tolist(), strict=True):
            self._put(arm, value)
        self._heap = [-value for value in self._arms]
        heapify(self._heap)

    def best(self) -> list[int]:
        while -self._heap[0] not in self._arms:
            heappop(self._heap)
        return self._arms[-self._heap[0]]

    def give(self, arm: int) -> None:
        if arm not in self._index:
            return  # drawn by the floor, it cannot be the best
        value = self._index[arm]
        bucket = self._arms[value]
        last = bucket.pop()
        if last != arm:  # the last one takes its place
            bucket[self._at[arm]] = last
            self._at[last] = self._at[arm]
        if not bucket:
            del self._arms[value]
        self._count[arm] += 1
        value = self._mean[arm] + self._scale / math.sqrt(self._count[arm])
        if value not in self._arms:
            heappush(self._heap, -value)
        self._put(arm, value)

    def _put(self, arm: int, value: float) -> None:
        bucket = self._arms.setdefault(value, [])
        self._index[arm], self._at[arm] = value, len(bucket)
        bucket.append(arm)


def indices(mean: Floats, count: Floats, scale: float) -> Floats:
    """mean + scale / sqrt(count), [K]; infinite where the mean is NaN (no data)."""
    seen = ~np.isnan(mean)
    bonus = np.divide(scale, np.sqrt(count), out=np.full(len(mean), np.inf), where=seen)
    return np.asarray(np.where(seen, mean, 0.0) + bonus)


def pooled(mean: Floats, count: Floats) -> Floats:
    """Means [K], where NaN the mean of all observations; 0 without any observation."""
    seen = ~np.isnan(mean)
    if seen.all():
        return mean
    total = float(count[seen].sum())
    return np.where(seen, mean, float((mean[seen] * count[seen]).sum()) / total if total else 0.0)


class IndexRule(Bandit):
    """Picks the highest index; a rule gives means, counts and the scale of the bonus."""

    @abstractmethod
    def means(self) -> Floats:
        """Mean reward of every arm, [K]; NaN without data."""

    @abstractmethod
    def counts(self) -> Floats:
        """N of every arm, [K]: observations behind its mean; 0 without data."""

    @abstractmethod
    def bonus(self) -> float:
        """Scale of the bonus: the bonus of an arm with N = 1."""

    @abstractmethod
    def forget(self, at: NDArray[np.intp]) -> None:
        """Drop the data of the arms at these positions."""

    def index(self) -> Floats:
        """Index of every arm, [K]; infinite without data."""
        return indices(self.means(), self.counts(), self.bonus())

    def preferences(self) -> Floats:
        """1 for the highest index, ties sharing it: the probabilities of the first slot of a batch."""
        index = self.index()
        return normalised((index == index.max()).astype(np.float64))

    def draw(self, n: int) -> tuple[NDArray[np.intp], Floats]:
        board = Buckets(self.means(), self.counts(), self.bonus(), n)
        return fill(board, n, len(self.arms), self.floor, self.rng)

    def values(self) -> dict[str, float | None]:
        return self.known(self.means())


def ucb_bonus(width: float, xi: float, count: Floats) -> float:
    """width sqrt(xi ln n), n the sum of the counts [K]; ln n is at least 1, for the first few counts."""
    return width * math.sqrt(xi * math.log(max(float(count.sum()), math.e)))
