"""What a selection is: the choice of tasks inside a category that a bandit has picked already.

Its arms are the training tasks of one category, known by their positions 0 .. N - 1 in a roster that never changes.
Numpy and pydantic are all this package imports, beside the contracts of bandits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from orchestrator.bandits.contracts import ChooserConfig, Floats

Positions = NDArray[np.int64]
Numbers = Mapping[
    str, Floats
]  # numbers of the tasks from the data [N], NaN where missing, by the option that names them


class SelectionConfig(ChooserConfig):
    """What every selection takes."""

    tasks: int = Field(
        4096,
        ge=1,
        description="Different training tasks to choose among, at most, in a category whose tasks never end or are only"
        " known once made: they are made whenever the run begins or goes on, which a slow generator feels.",
    )

    @property
    def fields(self) -> Mapping[str, str]:
        """Which numbers of a task's data it reads: the field, by the name of the option that says it."""
        return {}


@dataclass(frozen=True)
class TaskResult:
    """What a task showed when it was played."""

    position: int  # in the roster
    step: int  # the selection's own clock when it was chosen
    score: float  # mean score of its episodes, in [0, 1]: the pass rate where scores are 0 or 1
    num_samples: int  # episodes behind the score
    signal: float | None = None  # mean |advantage| of its group; None: it carries no comparison


class Selection(ABC):
    """Chooses tasks of one category.

    Args:
        num_tasks: N, at least 1.
        rng: the only source of chance.

    Calls: `choose` any number of times, each followed sooner or later by `learn` for some of its tasks.
    """

    def __init__(self, num_tasks: int, rng: np.random.Generator) -> None:
        if num_tasks < 1:
            raise ValueError(f"a selection needs at least one task, not {num_tasks}")
        self.num_tasks = num_tasks
        self.rng = rng
        self.clock = 0  # how many times it had been asked before

    @abstractmethod
    def draw(self, n: int) -> Positions:
        """Draw n distinct tasks [n] for the batch of the present clock, n from 1 to `num_tasks`."""

    def choose(self, n: int) -> Positions:
        """Choose n tasks [n] for one batch, distinct as long as there are enough; raises the clock by one."""
        counts = [min(self.num_tasks, n - done) for done in range(0, n, self.num_tasks)]
        chosen = [self.draw(count) for count in counts]
        self.clock += 1
        return np.concatenate([np.empty(0, np.int64), *chosen])

    @abstractmethod
    def learn(self, tried: Sequence[TaskResult]) -> None:
        """Take in what tasks showed; late is allowed. What could not be scored never arrives here."""

    def state(self) -> dict[str, Any]:
        """Everything that a later choice depends on, as JSON; of tasks, only those that were ever tried."""
        return {"clock": self.clock, "rng": self.rng.bit_generator.state}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state as if nothing had happened."""
        self.clock = int(state["clock"])
        self.rng.bit_generator.state = state["rng"]
