"""A bound on neglect: an arm that was not picked for S steps is drawn at least as often as under uniform choice.

    P <- (1 - o / K) P + [k is overdue] / K,  o of the K arms overdue

From then until it is picked an overdue arm has 1 / K, so a batch of n slots misses it with probability (1 - 1 / K)^n at
most (.0008 with 32 slots and 5 arms), and where all are overdue the choice is uniform. The slots stay independent and
the recorded probability is the one drawn with, which a slot set aside for the arm would not allow. Curricula
reference, sections 2.6 and 5.5.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from orchestrator.bandits.contracts import Bandit, Floats, Pick


class Staleness(Bandit):
    """Keeps `picked_by`, the step after each arm's last pick; a rule calls `revisit` once and mixes by `with_overdue`.

    An arm never picked counts from step 0, so one that joins late is overdue at once.
    """

    picked_by: Floats
    _stale_after = 0

    def revisit(self, stale_after: int) -> None:
        """Begin to note picks; after 0 steps: never. Called in `__init__`, after that of the base class."""
        self._stale_after = stale_after
        if stale_after:
            self.keep(picked_by=0.0)

    def enter(self, places: NDArray[np.intp], probabilities: Floats) -> list[Pick]:
        """Note when each arm was picked."""
        picks = super().enter(places, probabilities)
        if self._stale_after:
            self.picked_by[places] = self.clock
        return picks

    def overdue(self) -> NDArray[np.bool_]:
        """Which arms were not picked for so many steps, [K]."""
        return self.clock - self.picked_by >= self._stale_after

    def with_overdue(self, preferences: Floats) -> Floats:
        """Give overdue arms their uniform share, [K]."""
        if not self._stale_after:
            return preferences
        overdue = self.overdue()
        mixed: Floats = (1 - overdue.mean()) * preferences + overdue / len(overdue)
        return mixed
