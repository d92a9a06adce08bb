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
from array import array
from collections.abc import MutableSequence, Sequence
from functools import cached_property
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

    An index never grows while a batch is filled, so it holds only the n arms that are highest at the start, with ties:
    one of them is still as high when the last slot is given. Those that tie for the lowest place may be all arms.
    """

    def __init__(self, mean: Floats, count: Floats, scale: float, n: int) -> None:
        self._index = indices(mean, count, scale)
        self._least = nth_highest(self._index, n)
        self._mean, self._count, self._scale = mean, count, scale
        self._given: dict[int, int] = {}  # slots by arm
        self._level = np.flatnonzero(self._index == self._least)
        self._at: dict[int, int] = {}  # an arm's position in its bucket, where it is not the one in `_level`
        self._arms: dict[float, MutableSequence[int]] = {}  # the buckets: arms by index
        if len(self._level):
            self._arms[self._least] = array("q", self._level.tobytes())
        for arm in np.flatnonzero(self._index > self._least).tolist():
            self._put(arm, self._index.item(arm))
        self._heap = [-value for value in self._arms]
        heapify(self._heap)

    def best(self) -> Sequence[int]:
        while -self._heap[0] not in self._arms:
            heappop(self._heap)
        return self._arms[-self._heap[0]]

    def give(self, arm: int) -> None:
        value = self._index.item(arm)
        if value < self._least:
            return  # drawn by the floor, it cannot be the best
        bucket = self._arms[value]
        last = bucket.pop()
        if last != arm:  # the last one takes its place
            at = self._at[arm] if arm in self._at else int(self._level.searchsorted(arm))
            bucket[at] = last
            self._at[last] = at
        if not bucket:
            del self._arms[value]
        given = self._given[arm] = self._given.get(arm, 0) + 1
        mean = self._mean.item(arm)
        value = (self._pooled if math.isnan(mean) else mean) + self._scale / math.sqrt(self._count.item(arm) + given)
        self._index[arm] = value
        if value >= self._least:
            if value not in self._arms:
                heappush(self._heap, -value)
            self._put(arm, value)

    @cached_property
    def _pooled(self) -> float:
        return pooled_mean(self._mean, self._count)

    def _put(self, arm: int, value: float) -> None:
        bucket = self._arms.setdefault(value, [])
        self._at[arm] = len(bucket)
        bucket.append(arm)


def nth_highest(values: Floats, n: int) -> float:
    """The n-th highest of values [K]; -inf where there are fewer.

    The n-th highest is no lower than the lowest of the highest of n parts, so only what is as high is put in order.
    """
    if n >= len(values):
        return -math.inf
    tops = values[: len(values) // n * n].reshape(n, -1).max(axis=1)
    least = tops.min()
    if least == max(tops.max(), values[len(values) // n * n :].max(initial=-math.inf)):
        return float(least)
    high = values[values >= least]
    return float(np.partition(high, -n)[-n])


def indices(mean: Floats, count: Floats, scale: float) -> Floats:
    """mean + scale / sqrt(count), [K]; infinite where the mean is NaN (no data)."""
    unseen = np.isnan(mean)
    index = np.sqrt(count)
    with np.errstate(divide="ignore"):
        np.divide(scale, index, out=index)
    index += mean
    index[unseen] = np.inf
    return index


def pooled_mean(mean: Floats, count: Floats) -> float:
    """Mean of all observations, of means [K] (NaN: none) of so many each; 0 without any."""
    seen = ~np.isnan(mean)
    if not seen.all():
        mean, count = mean[seen], count[seen]
    total = float(count.sum())
    return float((mean * count).sum()) / total if total else 0.0


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

    def estimates(self) -> Floats:
        return self.means()


def ucb_bonus(width: float, xi: float, count: Floats) -> float:
    """width sqrt(xi ln n), n the sum of the counts [K]; ln n is at least 1, for the first few counts."""
    return width * math.sqrt(xi * math.log(max(float(count.sum()), math.e)))
