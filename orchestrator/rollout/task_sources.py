"""Where the training tasks of a category come from: a stream in seeded order, a selection, or a teacher."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence, Set
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from environments import ALL, Admission, Environment, EnvironmentFault, Task, TaskStream, belongs, make_task
from orchestrator.played_group import PlayedGroup
from orchestrator.selections.contracts import Selection, TaskResult
from orchestrator.teachers.contracts import Teacher

LATEST = 100  # steps of a category after which a result is not waited for any more
TRIES = 4  # at finding tasks that a batch does not have yet, each among twice as many
PATIENCE = 64  # tasks of a cell looked at for one to train on that is not in the batch yet
NEIGHBOURS = 32  # cells around it that are searched in the same way, before a task may come twice


class TaskSource(ABC):
    """Gives the training tasks of one category. Where it stands is its state."""

    environment: Environment
    at_once: bool = True  # a batch's tasks are drawn together; False: one by one, in the order of its slots

    def begin_batch(self) -> None:  # noqa: B027 - a stream has no batches
        """Take what is drawn from now on for one batch, until this is called again."""

    @abstractmethod
    def draw(self, n: int, avoid: Set[str] = frozenset()) -> list[Task]:
        """Draw n training tasks, none twice or in `avoid` (as `Environment.distinct` tells) if there are enough."""

    def learn(self, groups: Sequence[PlayedGroup]) -> None:  # noqa: B027 - a stream learns nothing
        """Learn how tasks drawn here went, from groups that have a score; late is allowed."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Everything that a later draw depends on, as JSON."""

    @abstractmethod
    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""

    def close(self) -> None:  # noqa: B027 - most have nothing to end
        """End what runs beside the steps."""


class StreamTaskSource(TaskStream, TaskSource):
    """Every task once in a seeded order, then again in another: `selection: cursor`, the default."""

    at_once = False


class SelectionTaskSource(TaskSource):
    """A selection's choice among the tasks of a roster.

    `roster`: indices of a category's training tasks [N], ascending; the selection's position p is the task roster[p].
    """

    def __init__(
        self, environment: Environment, category: str, roster: NDArray[np.int64], selection: Selection
    ) -> None:
        self.environment, self.category = environment, category
        self.selection = selection
        self._roster = roster
        self._awaited: dict[int, int] = {}  # the step in which a position was last chosen, oldest first
        self._has_begun = False  # it was asked for this batch

    @override
    def begin_batch(self) -> None:
        self._has_begun = False

    def draw(self, n: int, avoid: Set[str] = frozenset()) -> list[Task]:
        """Draw the tasks of a batch; the selection is asked again where it names what the batch has already."""
        keys, known = set(avoid), set[int]()
        taken: list[tuple[int, int, Task]] = []  # position, step in which it was chosen, task
        spare: list[tuple[int, int, Task]] = []  # the batch has these already
        for attempt in range(1 + TRIES):
            more, num_missing = self._has_begun, n - len(taken)
            step, self._has_begun = self.selection.clock - more, True
            wanted = num_missing  # others may choose the same ones again: they are asked for more
            if attempt and not self.selection.comes_once:
                wanted = min(n + num_missing * 2**attempt, self.selection.num_tasks)
            for position in self.selection.choose(wanted, more).tolist():
                if attempt == 0 or position not in known:
                    task = make_task(self.environment, self.category, int(self._roster[position]))
                    key = self.environment.distinct(task)
                    is_new = len(taken) < n and key not in keys
                    (taken if is_new else spare).append((position, step, task))
                    keys.add(key)
                    known.add(position)
            if len(taken) == n or len(known) == self.selection.num_tasks:
                break
        drawn = taken + spare[: n - len(taken)]
        for position, step, _ in drawn:
            self._awaited.pop(position, None)
            self._awaited[position] = step
        oldest = self.selection.clock - LATEST
        for position, step in list(self._awaited.items()):
            if step >= oldest:
                break
            del self._awaited[position]
        return [task for _, _, task in drawn]

    def learn(self, groups: Sequence[PlayedGroup]) -> None:
        """Tell the selection; a result that is no longer waited for is dropped."""
        positions = np.searchsorted(self._roster, [group.task.index for group in groups]).tolist()
        self.selection.learn(
            [
                TaskResult(position, self._awaited[position], group.score or 0.0, len(group.scored), group.signal)
                for position, group in zip(positions, groups, strict=True)
                if position in self._awaited
            ]
        )
        for position in positions:
            self._awaited.pop(position, None)

    @override
    def state(self) -> dict[str, Any]:
        return {
            "selection": self.selection.state(),
            "awaited": [[position, step] for position, step in self._awaited.items()],
            "roster": self._roster_mark,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue. Raises EnvironmentFault where it chose among other tasks: the data has changed."""
        if not self.chose_among_these(state):
            raise EnvironmentFault(
                f"{self.environment.name}, category {self.category}: the tasks to choose among are not those that the"
                " run began with; put its data, `tasks` of the selection and `max_prompt_tokens` back as they were, or"
                " fork it with a `selection` of another type"
            )
        self.selection.load_state(state["selection"])
        self._awaited = dict(state["awaited"])

    def chose_among_these(self, state: Mapping[str, Any]) -> bool:
        """Whether a state is of the same roster."""
        return bool(state["roster"] == self._roster_mark)

    @cached_property
    def _roster_mark(self) -> str:
        return hashlib.sha256(np.ascontiguousarray(self._roster, "<i8").tobytes()).hexdigest()[:16]


class TeacherTaskSource(TaskSource):
    """Asks a teacher for points of the unit box, and plays the next task of the cell that each lies in.

    A cell gives its tasks in turn, from an offset that the seed decides; where it has none left for this batch, the
    nearest other cell gives one. The teacher, of the box's dimensions, learns of the cell that was played. Give each
    source a seed of its own. Raises EnvironmentFault where the category has no box.
    """

    def __init__(
        self, environment: Environment, category: str, teacher: Teacher, seed: int, admission: Admission = ALL
    ) -> None:
        box = environment.box(category)
        if box is None:
            raise EnvironmentFault(f"{environment.name}, category {category}: no parameters to choose, it has no box")
        self.environment, self.category, self.teacher = environment, category, teacher
        self._box, self._seed, self._admission = box, seed, admission
        self._num_seen: dict[int, int] = {}  # tasks of each cell that were looked at

    def draw(self, n: int, avoid: Set[str] = frozenset()) -> list[Task]:
        """Draw a task for each of n points, without repeats and without those in `avoid` as far as there are such.

        Raises EnvironmentFault where no cell of the box has a task to train on.
        """
        tasks: list[Task] = []
        drawn: set[str] = set()
        for point in self.teacher.choose(n):
            cell = self._box.cell_of(point)
            task = self._find(cell, avoid | drawn)
            if task is None:  # a new one of the batch if that is not too far off, else any
                cells = [int(other) for other in self._box.nearest(cell)]
                found = (self._find(c, avoid | drawn) for c in cells[1 : 1 + NEIGHBOURS])
                twice = (self._find(c, frozenset()) for c in cells)
                task = next((one for one in chain(found, twice) if one is not None), None)
            if task is None:
                raise EnvironmentFault(
                    f"{self.environment.name}, category {self.category}: every task found in the box is held out, or"
                    " too long for the policy, and none is left to train on; give its parameters other ranges, or mark"
                    " it `trainable: false`"
                )
            drawn.add(self.environment.distinct(task))
            tasks.append(task)
        return tasks

    def learn(self, groups: Sequence[PlayedGroup]) -> None:
        """Tell the teacher the scores, at the points where the tasks lie."""
        if groups:
            points = np.array([self._box.point(group.task.index) for group in groups])
            self.teacher.learn(points, np.array([group.score for group in groups], np.float64))

    @override
    def state(self) -> dict[str, Any]:
        return {
            "teacher": self.teacher.state(),
            "num_seen": {str(cell): self._num_seen[cell] for cell in sorted(self._num_seen)},
        }

    @override
    def load_state(self, state: Mapping[str, Any]) -> None:
        self.teacher.load_state(state["teacher"])
        self._num_seen = {int(cell): int(num) for cell, num in state["num_seen"].items()}

    @override
    def close(self) -> None:
        self.teacher.close()

    def _find(self, cell: int, avoid: Set[str]) -> Task | None:
        """Find the next task of a cell that is to train on and not in `avoid`; None if there seems to be none."""
        offset = int(np.random.SeedSequence([self._seed, cell]).generate_state(1)[0])
        for _ in range(min(PATIENCE, self._box.num_tasks)):
            num_seen = self._num_seen.get(cell, 0)
            self._num_seen[cell] = num_seen + 1
            index = self._box.index(cell, (offset + num_seen) % self._box.num_tasks)
            task = make_task(self.environment, self.category, index)
            may_be_drawn = belongs(self.environment, task, "train") and self._admission.admits(task)
            if may_be_drawn and self.environment.distinct(task) not in avoid:
                return task
        return None
