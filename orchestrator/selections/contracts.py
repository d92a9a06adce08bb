"""The interface of a selection: the choice of tasks inside a category that a bandit has picked already.

Its arms are the training tasks of one category, known by their positions 0 .. N - 1 in a roster that never changes.
This package imports numpy, pydantic and the contracts of bandits alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from orchestrator.bandits.contracts import ChooserConfig, Floats, Stateful

Positions = NDArray[np.int64]
Numbers = Mapping[str, Floats]  # of the tasks' data [N], NaN where missing, by the option that names the field


class SelectionConfig(ChooserConfig):
    """Options of every selection."""

    reads_signal: ClassVar[bool] = True  # it learns from the signal of groups; False: from their scores alone

    tasks: int = Field(
        4096,
        ge=1,
        description="Different training tasks to choose among, at most, in a category whose tasks never end or are only"
        " known once made: they are made whenever the run begins or goes on, which a slow generator feels.",
    )

    @property
    def fields(self) -> Mapping[str, str]:
        """Numbers of a task's data that it reads: fields, by the option that names them."""
        return {}


@dataclass(frozen=True)
class TaskResult:
    """The outcome of one task that was played."""

    position: int  # in the roster
    step: int  # the selection's clock when its batch began
    score: float  # mean score of its episodes, in [0, 1]: the pass rate where scores are 0 or 1
    num_samples: int  # episodes behind the score
    signal: float | None = None  # mean |advantage| of its group; None: nothing to compare


class Selection(Stateful, ABC):
    """Chooses tasks of one category; all randomness comes from `rng`.

    `choose` may be called any number of times, each call followed sooner or later by `learn` for some of its tasks.
    """

    comes_once = False  # what was chosen does not come again in an epoch, also where the batch had no use for it

    def __init__(self, num_tasks: int, rng: np.random.Generator) -> None:
        if num_tasks < 1:
            raise ValueError(f"a selection needs at least one task, not {num_tasks}")
        self.num_tasks, self.rng = num_tasks, rng
        self.clock = 0  # batches so far

    @abstractmethod
    def draw(self, n: int) -> Positions:
        """Draw n distinct tasks [n] for one batch, n from 1 to `num_tasks`."""

    def choose(self, n: int, more: bool = False) -> Positions:
        """Choose n tasks [n] for one batch, distinct as long as there are enough; `more`: for the same as last time."""
        self.clock -= more
        counts = [min(self.num_tasks, n - done) for done in range(0, n, self.num_tasks)]
        chosen = [self.draw(count) for count in counts]
        self.clock += 1
        return np.concatenate([np.empty(0, np.int64), *chosen])

    @abstractmethod
    def learn(self, tried: Sequence[TaskResult]) -> None:
        """Learn from outcomes, also late; what could not be scored is left out."""

    def state(self) -> dict[str, Any]:
        """Everything that a later choice depends on, as JSON; of tasks, only those that were ever tried."""
        return {"clock": self.clock, **super().state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state exactly."""
        super().load_state(state)
        self.clock = int(state["clock"])
