"""Every task once in a seeded order, then again in another: the default.

    next = permutation(seed, epoch)[cursor];   cursor <- cursor + 1, and a new epoch after the last

Source: curricula reference, 2.4; the order within a category of arXiv 2505.14970. It learns nothing.
No task comes back before all others were played; over the end of an epoch a batch goes on with tasks that it does not
have yet. An endless category is played upward from a seeded offset, with no roster: `tasks` is not among its options.
In a run the stream of tasks itself is this cursor; this object does the same over positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from orchestrator.bandits.contracts import ChooserConfig
from orchestrator.selections.contracts import Numbers, Positions, Selection, TaskResult

SOURCE = "arXiv 2505.14970"

FEWEST = 64  # positions looked at in one go


class Epochs:
    """A cursor through seeded permutations of 0 .. N - 1, of which only the present one is in memory."""

    def __init__(self, num: int, seed: int) -> None:
        self.num, self.seed = num, seed
        self.epoch = self.cursor = 0
        self._order: Positions | None = None

    def take(self, n: int, leave_out: Positions | None = None) -> Positions:
        """Take the next n different positions [n] that are not in `leave_out`; fewer where there are no more.

        Over the end of an epoch it goes on in the next one, without what it has taken already.
        """
        is_out = np.zeros(self.num, bool)
        if leave_out is not None:
            is_out[leave_out] = True
        parts: list[Positions] = []
        missing, last = n, self.epoch + 2
        while missing and self.epoch < last:
            window = self._permutation()[self.cursor : self.cursor + max(FEWEST, 2 * missing)]
            places = np.flatnonzero(~is_out[window])[:missing]
            taken = window[places]
            self.cursor += int(places[-1]) + 1 if len(places) == missing else len(window)
            if self.cursor == self.num:
                self.epoch, self.cursor, self._order = self.epoch + 1, 0, None
            is_out[taken] = True
            parts.append(taken)
            missing -= len(taken)
        return np.concatenate([np.empty(0, np.int64), *parts])

    def state(self) -> dict[str, int]:
        return {"seed": self.seed, "epoch": self.epoch, "cursor": self.cursor}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.seed, self.epoch, self.cursor = state["seed"], state["epoch"], state["cursor"]
        self._order = None

    def _permutation(self) -> Positions:
        if self._order is None:
            self._order = np.random.default_rng([self.seed, self.epoch]).permutation(self.num)
        return self._order


def seed_from(rng: np.random.Generator) -> int:
    """Draw a seed."""
    return int(rng.integers(2**63))


class Config(ChooserConfig):
    type: Literal["cursor"] = "cursor"


class Cursor(Selection):
    saved = ("epochs",)

    def __init__(self, num_tasks: int, rng: np.random.Generator) -> None:
        super().__init__(num_tasks, rng)
        self.epochs = Epochs(num_tasks, seed_from(rng))

    def draw(self, n: int) -> Positions:
        return self.epochs.take(n)

    def learn(self, tried: Sequence[TaskResult]) -> None:
        """Learn nothing."""


def create(config: Config, num_tasks: int, rng: np.random.Generator, numbers: Numbers | None = None) -> Cursor:
    return Cursor(num_tasks, rng)
