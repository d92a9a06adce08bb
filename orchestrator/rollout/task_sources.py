"""Where the training tasks of a category come from: a stream in seeded order, a selection, or a teacher."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from environments import ALL, Admission, Environment, EnvironmentFault, Task, TaskStream, make_task
from orchestrator.selections.contracts import Selection, TaskResult

LATEST = 100  # steps of a category after which a result is not waited for any more
TRIES = 4  # at finding tasks that a batch does not have yet, each among twice as many


@dataclass(frozen=True)
class TaskOutcome:
    """What a task showed when it was played."""

    task: Task
    score: float  # mean score of its scored episodes, in [0, 1]
    num_samples: int  # those episodes
    signal: float | None  # mean |advantage| of its group; None: it carries no comparison


class TaskSource(ABC):
    """Gives the training tasks of one category. Where it stands is its state."""

    environment: Environment
    at_once: bool = True  # a batch's tasks are drawn together; False: one by one, in the order of its slots

    @abstractmethod
    def draw(self, n: int, avoid: Set[str] = frozenset()) -> list[Task]:
        """Draw n training tasks, none twice or in `avoid` (as `Environment.distinct` tells) if there are enough."""

    def learn(self, results: Sequence[TaskOutcome]) -> None:  # noqa: B027 - a stream learns nothing
        """Hear how tasks drawn here went; late is allowed, and what could not be scored is left out."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Everything that a later draw depends on, as JSON."""

    @abstractmethod
    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""

    def close(self) -> None:  # noqa: B027 - most have nothing to end
        """End what runs beside the steps."""


class StreamTaskSource(TaskSource):
    """Every task once in a seeded order, then again in another: `selection: cursor`, the default."""

    at_once = False

    def __init__(
        self, environment: Environment, category: str, seed: int, admission: Admission = ALL
    ) -> None:
        self.environment = environment
        self._stream = TaskStream(environment, category, seed, admission)

    def draw(self, n: int, avoid: Set[str] = frozenset()) -> list[Task]:
        """Draw the next n."""
        return self._stream.draw(n, avoid)

    def state(self) -> dict[str, Any]:
        """Two integers."""
        return dict(self._stream.state())

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from them."""
        self._stream.load_state(state)


class SelectionTaskSource(TaskSource):
    """A selection's choice among the tasks of a roster.

    Args:
        environment: where the tasks come from.
        category: the category they are of.
        roster: indices of its training tasks [N], ascending; the selection's position p is the task roster[p].
        selection: among N tasks.
    """

    def __init__(
        self, environment: Environment, category: str, roster: NDArray[np.int64], selection: Selection
    ) -> None:
        self.environment, self.category = environment, category
        self.selection = selection
        self._roster = roster
        self._awaited: dict[int, int] = {}  # the step in which a position was last chosen, oldest first

    def draw(self, n: int, avoid: Set[str] = frozenset()) -> list[Task]:
        """Draw the tasks of a batch; the selection is asked for more where it names what the batch has already."""
        batch = _Batch(n, avoid)
        for attempt in range(1 + TRIES):
            step = self.selection.clock
            wanted = n if attempt == 0 else min(n + batch.num_missing * 2**attempt, self.selection.num_tasks)
            for position in self.selection.choose(wanted).tolist():
                if attempt == 0 or not batch.knows(position):
                    task = make_task(self.environment, self.category, int(self._roster[position]))
                    batch.offer(position, step, task, self.environment.distinct(task))
            if not batch.num_missing or batch.num_known == self.selection.num_tasks:
                break
        offers = batch.filled()
        self._await(offers)
        return [offer.task for offer in offers]

    def learn(self, results: Sequence[TaskOutcome]) -> None:
        """Tell the selection; a result that is no longer waited for is dropped."""
        positions = np.searchsorted(self._roster, [result.task.index for result in results]).tolist()
        self.selection.learn(
            [
                TaskResult(position, self._awaited[position], result.score, result.num_samples, result.signal)
                for position, result in zip(positions, results, strict=True)
                if position in self._awaited
            ]
        )
        for position in positions:
            self._awaited.pop(position, None)

    def state(self) -> dict[str, Any]:
        """The selection's, what is waited for, and which tasks it is about."""
        return {
            "selection": self.selection.state(),
            "awaited": [[position, step] for position, step in self._awaited.items()],
            "roster": self._roster_mark,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue.

        Raises:
            EnvironmentFault: it chose among other tasks: the data has changed, or the option `tasks`.
        """
        if state["roster"] != self._roster_mark:
            raise EnvironmentFault(
                f"{self.environment.name}, category {self.category}: the tasks to choose among are not those that the"
                " run began with; put its data, `tasks` of the selection and `max_prompt_tokens` back as they were, or"
                " begin a new run"
            )
        self.selection.load_state(state["selection"])
        self._awaited = dict(state["awaited"])

    @cached_property
    def _roster_mark(self) -> str:
        return hashlib.sha256(np.ascontiguousarray(self._roster, "<i8").tobytes()).hexdigest()[:16]

    def _await(self, offers: Sequence[_Offer]) -> None:
        """Note in which step tasks were chosen, and forget those whose results will not come any more."""
        for offer in offers:
            self._awaited.pop(offer.position, None)
            self._awaited[offer.position] = offer.step
        oldest = self.selection.clock - LATEST
        for position, step in list(self._awaited.items()):
            if step >= oldest:
                break
            del self._awaited[position]


@dataclass(frozen=True)
class _Offer:
    """A task that a selection chose."""

    position: int
    step: int
    task: Task


class _Batch:
    """A batch in the making: tasks that it does not have yet come first."""

    def __init__(self, num: int, avoid: Set[str]) -> None:
        self._num, self._keys = num, set(avoid)
        self._taken: list[_Offer] = []
        self._spare: list[_Offer] = []  # the batch has them already
        self._known: set[int] = set()

    @property
    def num_missing(self) -> int:
        return self._num - len(self._taken)

    @property
    def num_known(self) -> int:
        return len(self._known)

    def knows(self, position: int) -> bool:
        return position in self._known

    def offer(self, position: int, step: int, task: Task, key: str) -> None:
        is_wanted = self.num_missing > 0 and key not in self._keys
        (self._taken if is_wanted else self._spare).append(_Offer(position, step, task))
        self._keys.add(key)
        self._known.add(position)

    def filled(self) -> list[_Offer]:
        """Give the batch, filled up with tasks that come twice where there are no others."""
        return self._taken + self._spare[: self.num_missing]
