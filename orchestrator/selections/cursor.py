"""Every task once in a seeded order, then again in another: the default.

    next = permutation(seed, epoch)[cursor];   cursor <- cursor + 1, and a new epoch after the last

Source: curricula reference, 2.4; the order within a category of arXiv 2505.14970. It learns nothing.
No task comes back before all others were played; over the end of an epoch a batch goes on with tasks that it does not
have yet. A category whose tasks never end is gone through upward from a seeded offset, with no roster: `tasks` is not
among its options. In a run the stream of tasks itself is this cursor; what is made here does the same over positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from orchestrator.bandits.contracts import ChooserConfig
from orchestrator.selections.contracts import Numbers, Positions, Selection, TaskResult
from orchestrator.selections.epochs import Epochs, seed_from

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
