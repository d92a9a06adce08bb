"""Whether an arm's pass rate moves: a fast average of it, and a slow one that trails the fast one.

    fast <- fast + a (score - fast),  slow <- slow + b (fast - slow),  at every visit of the arm

A visit is a step in which the arm had groups with a score, so the clock of an arm that is not picked stands still. Both
averages begin at the first score: compared with 0 the whole level would count as progress (curricula reference, 2.3).
Source: arXiv 2106.14876. That the slow average follows the fast one, not the score, is also what gives the figures of
the reference's section 8.3.
"""

from __future__ import annotations

import numpy as np

from orchestrator.bandits.contracts import Bandit, Floats, StepFeedback


class PassRateAverages(Bandit):
    """Keeps the averages and the number of visits of every arm; a rule calls `watch` once and `follow` in `observe`."""

    fast_score: Floats
    slow_score: Floats
    num_scores: Floats  # visits

    def watch(self, fast: float, slow: float, *, from_zero: bool = False) -> None:
        """Begin to keep averages, with the steps a and b in (0, 1]; called in `__init__` after the base class.

        `from_zero` begins both at 0, as published code does: an arm's whole level then counts as progress at first.
        """
        self._fast, self._slow, self._from_zero = fast, slow, from_zero
        self.keep(fast_score=0.0, slow_score=0.0, num_scores=0.0)

    def follow(self, seen: StepFeedback) -> None:
        """Move the averages of the arms that a score was told of; the others stay."""
        told = ~np.isnan(seen.score)
        at, score = seen.at[told], seen.score[told]
        is_first = (self.num_scores[at] == 0) & (not self._from_zero)
        fast = self.fast_score[at] + self._fast * (score - self.fast_score[at])
        self.fast_score[at] = np.where(is_first, score, fast)
        slow = self.slow_score[at] + self._slow * (self.fast_score[at] - self.slow_score[at])
        self.slow_score[at] = np.where(is_first, score, slow)
        self.num_scores[at] += 1

    def progress(self) -> Floats:
        """Fast minus slow average of every arm, [K], in [-1, 1]; 0 before the second visit."""
        return self.fast_score - self.slow_score
