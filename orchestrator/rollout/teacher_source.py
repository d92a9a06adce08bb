"""A category with a box of parameters, played where a teacher chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np

from environments import ALL, Admission, Environment, EnvironmentFault, Task, belongs, make_task
from orchestrator.rollout.task_sources import TaskOutcome, TaskSource
from orchestrator.teachers.contracts import Teacher

PATIENCE = 64  # tasks of a cell looked at for one to train on that is not in the batch yet
NEIGHBOURS = 32  # cells around it that are searched in the same way, before a task may come twice


class TeacherTaskSource(TaskSource):
    """Asks a teacher for points of the unit box, and plays the next task of the cell that each lies in.

    A cell gives its tasks in turn, from an offset that the seed decides; where it has none left for this batch, the
    nearest other cell gives one. The teacher hears of the cell that was played.

    Args:
        environment: where the tasks come from.
        category: one of its trainable categories that has a box.
        teacher: of the box's dimensions.
        seed: at least 0; give each source its own.
        admission: tasks that it does not admit are passed over.

    Raises:
        EnvironmentFault: the category has no box.
    """

    def __init__(
        self,
        environment: Environment,
        category: str,
        teacher: Teacher,
        seed: int,
        admission: Admission = ALL,
    ) -> None:
        box = environment.box(category)
        if box is None:
            raise EnvironmentFault(
                f"{environment.name}, category {category}: no parameters to choose, it has no box"
            )
        self.environment, self.category, self.teacher = environment, category, teacher
        self._box, self._seed, self._admission = box, seed, admission
        self._num_seen: dict[int, int] = {}  # tasks of each cell that were looked at

    def draw(self, n: int, avoid: Set[str] = frozenset()) -> list[Task]:
        """Draw a task for each of n points, without repeats and without those in `avoid` as far as there are such.

        Raises:
            EnvironmentFault: no cell of the box has a task to train on.
        """
        tasks: list[Task] = []
        drawn: set[str] = set()
        for point in self.teacher.choose(n):
            task = self._near(self._box.cell_of(point), avoid, drawn)
            drawn.add(self.environment.distinct(task))
            tasks.append(task)
        return tasks

    def learn(self, results: Sequence[TaskOutcome]) -> None:
        """Tell the teacher the scores, at the points where the tasks lie."""
        if results:
            points = np.array([self._box.point(result.task.index) for result in results])
            self.teacher.learn(points, np.array([result.score for result in results], np.float64))

    def state(self) -> dict[str, Any]:
        """The teacher's, and the cursor of every cell that was visited."""
        return {
            "teacher": self.teacher.state(),
            "num_seen": {str(cell): self._num_seen[cell] for cell in sorted(self._num_seen)},
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue."""
        self.teacher.load_state(state["teacher"])
        self._num_seen = {int(cell): int(num) for cell, num in state["num_seen"].items()}

    def close(self) -> None:
        """End the teacher's thread."""
        self.teacher.close()

    def _near(self, cell: int, avoid: Set[str], drawn: Set[str]) -> Task:
        """Find a task in a cell, or in the nearest that has one: a new one of the batch, if that is not too far off."""
        task = self._find(cell, avoid, drawn)
        if task is not None:
            return task
        cells = [int(other) for other in self._box.nearest(cell)]
        nothing: frozenset[str] = frozenset()
        searches = [(c, avoid, drawn) for c in cells[1 : 1 + NEIGHBOURS]] + [
            (c, nothing, nothing) for c in cells
        ]
        found = (self._find(*search) for search in searches)
        task = next((task for task in found if task is not None), None)
        if task is None:
            raise EnvironmentFault(
                f"{self.environment.name}, category {self.category}: every task found in the box is held out, or too"
                " long for the policy, and none is left to train on; give its parameters other ranges, or mark it"
                " `trainable: false`"
            )
        return task

    def _find(self, cell: int, avoid: Set[str], drawn: Set[str]) -> Task | None:
        """Find the next task of a cell that is to train on and in neither; None if there seems to be none."""
        for _ in range(min(PATIENCE, self._box.num_tasks)):
            task = make_task(self.environment, self.category, self._next_index(cell))
            if belongs(self.environment, task, "train") and self._admission.admits(task):
                key = self.environment.distinct(task)
                if key not in avoid and key not in drawn:
                    return task
        return None

    def _next_index(self, cell: int) -> int:
        """Move a cell's cursor on."""
        offset = int(np.random.SeedSequence([self._seed, cell]).generate_state(1)[0])
        num_seen = self._num_seen.get(cell, 0)
        self._num_seen[cell] = num_seen + 1
        return self._box.index(cell, (offset + num_seen) % self._box.num_tasks)
