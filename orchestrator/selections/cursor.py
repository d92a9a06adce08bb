"""Every task once in a seeded order, then again in another: the default.

    next = permutation(seed, epoch)[cursor];   cursor <- cursor + 1, and a new epoch after the last

Source: curricula reference, 2.4; the order within a category of arXiv 2505.14970. It learns nothing.
No task comes back before all others were played; over the end of an epoch a batch goes on with tasks that it does not
have yet. A category whose tasks never end is gone through upward from a seeded offset, with no roster: `tasks` is not
among its options. In a run the stream of tasks itself is this cursor; what is made here does the same over positions.

MERGED:
All positions once in a seeded order, then again in another: two integers and a seed are its whole state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from orchestrator.bandits.contracts import ChooserConfig
from orchestrator.selections.contracts import Numbers, Positions, Selection, TaskResult

FEWEST = 64  # positions looked at in one go


class Epochs:
    """A cursor through permutations of 0 .. N - 1; none is kept but the present one, which its number gives again."""

    def __init__(self, num: int, seed: int) -> None:
        self.num, self.seed = num, seed
        self.epoch = self.cursor = 0
        self._order: Positions | None = None

    def take(self, n: int, leave_out: Positions | None = None) -> Positions:
        """Take the next n different positions [n], passing over those in `leave_out`.

        Over the end of an epoch it goes on in the next one and passes over what it has taken already. Fewer come back
        if there are no more: every position is looked at at least once before it gives up.
        """
        is_out = np.zeros(self.num, bool) if leave_out is None else _mask(self.num, leave_out)
        parts: list[Positions] = []
        missing, last = n, self.epoch + 2
        while missing and self.epoch < last:
            window = self._permutation()[self.cursor : self.cursor + max(FEWEST, 2 * missing)]
            places = np.flatnonzero(~is_out[window])[:missing]
            taken = window[places]
            self._advance(int(places[-1]) + 1 if len(places) == missing else len(window))
            is_out[taken] = True
            parts.append(taken)
            missing -= len(taken)
        return np.concatenate([np.empty(0, np.int64), *parts])

    def state(self) -> dict[str, int]:
        """Where it is."""
        return {"seed": self.seed, "epoch": self.epoch, "cursor": self.cursor}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on there."""
        self.seed, self.epoch, self.cursor = state["seed"], state["epoch"], state["cursor"]
        self._order = None

    def _advance(self, by: int) -> None:
        self.cursor += by
        if self.cursor == self.num:
            self.epoch, self.cursor, self._order = self.epoch + 1, 0, None

    def _permutation(self) -> Positions:
        if self._order is None:
            self._order = np.random.default_rng([self.seed, self.epoch]).permutation(self.num)
        return self._order


def seed_from(rng: np.random.Generator) -> int:
    """Draw the seed of something that is made again from it."""
    return int(rng.integers(2**63))


def _mask(num: int, at: Positions) -> NDArray[np.bool_]:
    mask = np.zeros(num, bool)
    mask[at] = True
    return mask


SOURCE = "arXiv 2505.14970"


class Config(ChooserConfig):
    """It has no options."""

    type: Literal["cursor"] = "cursor"


class Cursor(Selection):
    """A cursor; see the module."""

    def __init__(self, num_tasks: int, rng: np.random.Generator) -> None:
        super().__init__(num_tasks, rng)
        self._epochs = Epochs(num_tasks, seed_from(rng))

    def draw(self, n: int) -> Positions:
        """Take the next n."""
        return self._epochs.take(n)

    def learn(self, tried: Sequence[TaskResult]) -> None:
        """Learn nothing."""

    def state(self) -> dict[str, Any]:
        """Add the cursor."""
        return {**super().state(), "epochs": self._epochs.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue."""
        super().load_state(state)
        self._epochs.load_state(state["epochs"])


def create(
    config: Config, num_tasks: int, rng: np.random.Generator, numbers: Numbers | None = None
) -> Cursor:
    """Make the selection of a spec."""
    return Cursor(num_tasks, rng)
