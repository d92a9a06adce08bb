"""Drawing from many tasks: a sum tree, the Gumbel trick, and the best few with ties broken by chance."""

from __future__ import annotations

import numpy as np

from orchestrator.bandits.contracts import Floats
from orchestrator.selections.contracts import Positions


class SumTree:
    """Weights [N], N >= 1, finite and not negative, with O(log N) a draw and a change (curricula reference, 3.10).

    Every node is the sum of its two children and is computed anew whenever one changes, never by adding a difference:
    so nothing drifts and no node is ever negative. Many changes or draws at once go through the tree level by level,
    one array operation each; 16 to 32 bytes a weight.
    """

    def __init__(self, weights: Floats) -> None:
        self._width = 1 << (len(weights) - 1).bit_length()
        self._depth = self._width.bit_length() - 1
        self._nodes = np.zeros(2 * self._width)
        self._size = len(weights)
        self.rebuild(weights)

    @property
    def total(self) -> float:
        """Sum of all weights."""
        return float(self._nodes[1])

    @property
    def weights(self) -> Floats:
        """The weights [N]; read-only."""
        return self._nodes[self._width : self._width + self._size]

    def rebuild(self, weights: Floats) -> None:
        """Replace all weights [N], in O(N)."""
        self._nodes[self._width : self._width + self._size] = _checked(weights)
        width = self._width
        while width > 1:
            children = self._nodes[width : 2 * width]
            self._nodes[width // 2 : width] = children[0::2] + children[1::2]
            width //= 2

    def set(self, at: Positions, weights: Floats) -> None:
        """Change the weights at some places [M]; of a place given twice, the last one counts."""
        node = at + self._width
        self._nodes[node] = _checked(weights)
        for _ in range(self._depth):
            node = node >> 1
            self._nodes[node] = self._nodes[2 * node] + self._nodes[2 * node + 1]

    def draw(self, n: int, rng: np.random.Generator) -> Positions:
        """Draw n places [n] in proportion to their weights, with replacement; some weight must be positive."""
        node, rest = np.ones(n, np.int64), rng.random(n) * self.total
        for _ in range(self._depth):
            left, right = self._nodes[2 * node], self._nodes[2 * node + 1]
            goes_right = (right > 0) & ((rest >= left) | (left == 0))  # never to a weight of 0 by rounding
            rest = np.where(goes_right, rest - left, rest)
            node = 2 * node + goes_right
        return node - self._width

    def draw_distinct(self, n: int, rng: np.random.Generator) -> Positions:
        """Draw up to n different places, each in proportion to what is left; fewer where fewer have any weight.

        Draws with replacement less their repeats are draws without; weights of drawn places are 0 in between.
        """
        drawn, before = np.empty(0, np.int64), np.empty(0)
        while len(drawn) < n and self.total > 0:
            new = np.unique(self.draw(n - len(drawn), rng))
            drawn, before = np.concatenate([drawn, new]), np.concatenate([before, self.weights[new]])
            self.set(new, np.zeros(len(new)))
        self.set(drawn, before)
        return drawn


def _checked(weights: Floats) -> Floats:
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError("weights must be finite and not negative")
    return weights


def gumbel_top_k(logits: Floats, k: int, rng: np.random.Generator) -> Positions:
    """Draw k distinct places by softmax(logits) [M] without replacement, in no order; -inf comes last. O(M).

    argtop_k(logit + Gumbel) is such a draw, and -ln E with E ~ Exp(1) a Gumbel variable (curricula reference, 3.10).
    """
    if k >= len(logits):
        return np.arange(len(logits))
    keys = np.log(rng.standard_exponential(len(logits))) - logits
    return np.argpartition(keys, k)[:k]


def smallest(values: Floats, n: int, rng: np.random.Generator) -> Positions:
    """Places of the n smallest of values [M], or of all, in no order; chance decides between ties."""
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
    """Do what `smallest` does for `num` values that are `level` but at places `at` [M], in time independent of `num`.

    Args:
        at: the places of other values [M], ascending.
        values: the values there [M].
        level: the value everywhere else.
        num: number of values, at least n.
        n: how many places are wanted.
        rng: decides between ties.
    """
    below, tied, above = (np.flatnonzero(where) for where in (values < level, values == level, values > level))
    if n <= len(below):
        return at[below[smallest(values[below], n, rng)]]
    num_level = len(tied) + num - len(at)
    ranks = rng.choice(num_level, min(n - len(below), num_level), replace=False)
    free = ranks[ranks >= len(tied)] - len(tied)  # ranks among the places that are not in `at`
    others = free + np.searchsorted(at - np.arange(len(at)), free, side="right")
    rest = smallest(values[above], n - len(below) - len(ranks), rng)
    return np.concatenate([at[below], at[tied[ranks[ranks < len(tied)]]], others, at[above[rest]]])
