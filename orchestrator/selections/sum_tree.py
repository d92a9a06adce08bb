"""A sum tree: draws from a million weights that change, in O(log N) a draw and a change.

Every node is the sum of its two children and is worked out anew from them whenever one changes, never by adding a
difference: so nothing drifts, no node is ever negative, and none needs to be rebuilt for it. Many changes or draws at
once go through the tree level by level, one array operation each. Curricula reference, 3.10.
"""

from __future__ import annotations

import numpy as np

from orchestrator.bandits.contracts import Floats
from orchestrator.selections.contracts import Positions


class SumTree:
    """Weights [N] with the sums above them: 16 to 32 bytes a weight.

    Args:
        weights: [N], N at least 1, finite and not negative.
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
        """The weights [N], to be read only."""
        return self._nodes[self._width : self._width + self._size]

    def rebuild(self, weights: Floats) -> None:
        """Take all weights [N] anew, in O(N)."""
        self._nodes[self._width : self._width + self._size] = _checked(weights)
        width = self._width
        while width > 1:
            children = self._nodes[width : 2 * width]
            self._nodes[width // 2 : width] = children[0::2] + children[1::2]
            width //= 2

    def set(self, at: Positions, weights: Floats) -> None:
        """Change the weights at some places [M]; of a place that comes twice, the last one stays."""
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
            # A side without weight is never entered, whatever rounding left of `rest`.
            goes_right = (right > 0) & ((rest >= left) | (left == 0))
            rest = np.where(goes_right, rest - left, rest)
            node = 2 * node + goes_right
        return node - self._width

    def draw_distinct(self, n: int, rng: np.random.Generator) -> Positions:
        """Draw up to n different places, each in proportion to what is left; fewer where fewer have any weight.

        Draws with replacement whose repeats are left out are draws without replacement; setting the weights of what
        was drawn to 0 in between changes nothing about that, and ends it.
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
