"""A bounded memory of tasks with numbers of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.bandits.contracts import Floats
from orchestrator.selections.contracts import Positions


class TaskBuffer:
    """Some tasks, ascending by position, and named numbers [M] of each: as many as were put and not let go of."""

    def __init__(self, *names: str) -> None:
        self.at: Positions = np.empty(0, np.int64)
        self._numbers: dict[str, Floats] = {name: np.empty(0) for name in names}

    def __len__(self) -> int:
        return len(self.at)

    def __getitem__(self, name: str) -> Floats:
        """The numbers of this name [M], which may be written to."""
        return self._numbers[name]

    def has(self, at: Positions) -> NDArray[np.bool_]:
        """Say of tasks [S] whether each is here."""
        return np.isin(at, self.at)

    def put(self, at: Positions, **numbers: Floats) -> None:
        """Take in tasks [S], all different, with all their numbers [S], in the place of what was known of them."""
        stays = ~np.isin(self.at, at)
        order = np.argsort(together := np.concatenate([self.at[stays], at]))
        for name, old in self._numbers.items():
            self._numbers[name] = np.concatenate([old[stays], numbers[name]])[order]
        self.at = together[order]

    def only(self, stays: NDArray[np.bool_]) -> None:
        """Let go of all but these, said of each [M]."""
        self.at = self.at[stays]
        self._numbers = {name: numbers[stays] for name, numbers in self._numbers.items()}

    def at_most(self, num: int, worth: Floats) -> None:
        """Let go of those of least worth [M] until `num` are left; of equals, those of higher positions go."""
        if len(self) > num:
            stays = np.zeros(len(self), bool)
            stays[np.argsort(-worth, kind="stable")[:num]] = True
            self.only(stays)

    def state(self) -> dict[str, list[float]]:
        """All of it."""
        return {"at": self.at.tolist(), **{name: numbers.tolist() for name, numbers in self._numbers.items()}}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from it."""
        self.at = np.array(state["at"], np.int64)
        self._numbers = {name: np.array(state[name], np.float64) for name in self._numbers}
