"""The best few of many, with ties broken by chance instead of by position."""

from __future__ import annotations

import numpy as np

from orchestrator.bandits.contracts import Floats
from orchestrator.selections.contracts import Positions


def smallest(values: Floats, n: int, rng: np.random.Generator) -> Positions:
    """Find where the n smallest of values [M] are, in no order, or all of them; which ones of a tie, chance decides."""
    if n >= len(values):
        return np.arange(len(values))
    if n == 0:
        return np.empty(0, np.int64)
    edge = np.partition(values, n - 1)[n - 1]
    below, level = np.flatnonzero(values < edge), np.flatnonzero(values == edge)
    return np.concatenate([below, rng.choice(level, n - len(below), replace=False)])


def smallest_beside(
    at: Positions, values: Floats, level: float, num: int, n: int, rng: np.random.Generator
) -> Positions:
    """Find the n smallest of `num` values of which all but those at some places have the same.

    Does what `smallest` does, in time that does not depend on `num`.

    Args:
        at: those places [M], ascending.
        values: the values there [M].
        level: the value everywhere else.
        num: how many values there are, at least n.
        n: how many are wanted.
        rng: decides between equal ones.
    """
    below, tied, above = (
        np.flatnonzero(where) for where in (values < level, values == level, values > level)
    )
    if n <= len(below):
        return at[below[smallest(values[below], n, rng)]]
    num_level = len(tied) + num - len(at)
    ranks = rng.choice(num_level, min(n - len(below), num_level), replace=False)
    others = _absent(at, ranks[ranks >= len(tied)] - len(tied))
    rest = smallest(values[above], n - len(below) - len(ranks), rng)
    return np.concatenate([at[below], at[tied[ranks[ranks < len(tied)]]], others, at[above[rest]]])


def _absent(at: Positions, ranks: Positions) -> Positions:
    """Give the whole numbers that have these ranks, from 0, among those not in `at`, which ascends."""
    return ranks + np.searchsorted(at - np.arange(len(at)), ranks, side="right")
