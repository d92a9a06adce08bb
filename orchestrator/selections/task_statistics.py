"""Numbers of every task in arrays, whose state holds only the tasks that were ever tried."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from orchestrator.selections.contracts import Positions, Selection


class TaskStatistics(Selection):
    """A selection with numbers [N] of its tasks: `keep` makes them, `note` says which now have values of their own."""

    def __init__(self, num_tasks: int, rng: np.random.Generator) -> None:
        super().__init__(num_tasks, rng)
        self._starts: dict[str, float] = {}
        self._is_tried = np.zeros(num_tasks, bool)

    def keep(self, **starts: float) -> None:
        """Keep numbers of the tasks: an attribute [N] for each name, with the value of a task that was never tried."""
        for name, start in starts.items():
            self._starts[name] = start
            setattr(self, name, np.full(self.num_tasks, start, np.float64))

    def note(self, at: Positions) -> None:
        """Say that these tasks were tried."""
        self._is_tried[at] = True

    @property
    def tried(self) -> Positions:
        """The tasks that were ever tried, ascending."""
        return np.flatnonzero(self._is_tried)

    def state(self) -> dict[str, Any]:
        """Add the numbers of the tasks that were tried."""
        tried = self.tried
        numbers = {name: getattr(self, name)[tried].tolist() for name in self._starts}
        return {**super().state(), "tried": tried.tolist(), **numbers}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue; the tasks not named begin as new."""
        super().load_state(state)
        tried = np.array(state["tried"], np.int64)
        self._is_tried[:] = False
        self.note(tried)
        for name, start in self._starts.items():
            numbers = getattr(self, name)
            numbers[:] = start
            numbers[tried] = state[name]
