from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from environments import Admission, Box, Category, Environment, EnvironmentFault, Task, belongs, pool_of
from orchestrator.bandits.contracts import Floats
from orchestrator.rollout.task_sources import TeacherTaskSource
from orchestrator.teachers import alp_gmm, random
from orchestrator.teachers.contracts import Teacher
from tests.orchestrator.rollout.episodes import of_task


class Boxed(Environment):
    """Repeat a number of so many digits; of some lengths there are few, and of some none to train on."""

    name, version = "boxed", "1"

    def __init__(self, few: Sequence[int] = (), held_out: Sequence[int] = (), highest: int = 8) -> None:
        self.few, self.held_out = few, held_out
        self._box = Box(("length",), (1,), (highest,), (True,))

    @property
    def categories(self) -> list[Category]:
        return [Category("box"), Category("plain")]

    def size(self, category: str) -> int | None:
        return None

    def box(self, category: str) -> Box | None:
        return self._box if category == "box" else None

    def length(self, index: int) -> int:
        return int(self._box.values(self._box.cell(index))["length"])

    def task(self, category: str, index: int) -> Task:
        length = self.length(index)
        number = f"{length} {index % 3 if length in self.few else index}"
        while (pool_of(Task("", "", 0, _asked(number)).key) == "train") == (length in self.held_out):
            number += "."
        return Task(self.name, category, index, _asked(number), number)


def _asked(text: str) -> tuple[dict[str, str], ...]:
    return ({"role": "user", "content": text},)


class Fixed(Teacher):
    """Always the same point; remembers what it is told."""

    def __init__(self, at: float) -> None:
        super().__init__(1, np.random.default_rng(0))
        self.at = at
        self.told: list[tuple[list[list[float]], list[float]]] = []

    def choose(self, n: int) -> Floats:
        return np.full((n, 1), self.at)

    def learn(self, points: Floats, scores: Floats) -> None:
        self.told.append((points.tolist(), scores.tolist()))


def taught(environment: Environment | None = None, teacher: Teacher | None = None, seed: int = 0) -> TeacherTaskSource:
    teacher = random.create(random.Config(), 1, np.random.default_rng(seed)) if teacher is None else teacher
    return TeacherTaskSource(environment or Boxed(), "box", teacher, seed)


def at_length(length: int) -> Fixed:
    return Fixed((length - 0.5) / 8)


def lengths(environment: Boxed, tasks: Sequence[Task]) -> list[int]:
    return [environment.length(task.index) for task in tasks]


def test_tasks_lie_where_the_teacher_chose_and_are_to_train_on():
    one = taught(Boxed(), at_length(5))
    tasks = one.draw(40)
    assert lengths(Boxed(), tasks) == [5] * 40
    assert all(belongs(one.environment, task, "train") for task in tasks)
    assert len({task.key for task in tasks}) == 40


def test_a_cell_goes_on_where_it_stood_and_the_seed_decides_where_it_begins():
    one = taught(Boxed(), at_length(5))
    first, second = one.draw(10), one.draw(10)
    assert not {task.key for task in first} & {task.key for task in second}
    assert taught(Boxed(), at_length(5)).draw(10) == first
    assert taught(Boxed(), at_length(5), seed=1).draw(10) != first


def test_what_is_in_the_batch_is_avoided():
    one, twin = taught(Boxed(), at_length(5)), taught(Boxed(), at_length(5))
    first = one.draw(6)
    assert not {t.key for t in twin.draw(6, avoid={t.key for t in first[:3]})} & {t.key for t in first[:3]}


def test_where_a_cell_has_no_more_for_the_batch_the_nearest_cells_help_out():
    environment = Boxed(few=[5])
    tasks = taught(environment, at_length(5)).draw(12)
    found = lengths(environment, tasks)
    assert found[:3] == [5, 5, 5]
    assert set(found[3:]) == {4}, "of cells as far off, the first"
    assert len({task.key for task in tasks}) == 12


def test_where_a_cell_is_all_held_out_the_nearest_others_take_its_place():
    environment = Boxed(held_out=[4, 5, 6])
    assert set(lengths(environment, taught(environment, at_length(5)).draw(10))) == {3}


class Short(Admission):
    def admits(self, task: Task) -> bool:
        return len(task.messages[0]["content"]) < 6


def test_where_a_cell_has_no_task_that_is_admitted_the_nearest_others_take_its_place():
    environment = Boxed(few=[2])
    tasks = TeacherTaskSource(environment, "box", at_length(2), 0, Short()).draw(2)
    assert all(len(task.messages[0]["content"]) < 6 for task in tasks)
    with pytest.raises(EnvironmentFault, match="held out, or too long for the policy"):
        TeacherTaskSource(Boxed(), "box", at_length(2), 0, Short()).draw(1)


def test_in_a_small_box_tasks_come_twice_before_it_fails():
    environment = Boxed(few=range(1, 9))
    tasks = taught(environment, at_length(5)).draw(30)
    assert len({task.key for task in tasks}) == 8 * 3
    assert lengths(environment, tasks)[24:] == [5] * 6


def test_a_box_without_any_task_to_train_on_is_a_fault_of_the_environment():
    with pytest.raises(EnvironmentFault, match="every task found in the box is held out"):
        taught(Boxed(held_out=range(1, 9))).draw(1)


def test_a_category_without_a_box_is_refused():
    with pytest.raises(EnvironmentFault, match="category plain: no parameters to choose"):
        TeacherTaskSource(Boxed(), "plain", at_length(5), 0)


def test_the_teacher_hears_of_the_cell_that_was_played():
    environment, teacher = Boxed(held_out=[5]), at_length(5)
    one = taught(environment, teacher)
    tasks = one.draw(3)
    one.learn([of_task(task, score, 0.1) for task, score in zip(tasks, (0.1, 0.5, 0.9), strict=True)])
    one.learn([])
    ((points, scores),) = teacher.told
    assert [int(point[0] * 8) + 1 for point in points] == lengths(environment, tasks) == [4, 4, 4]
    assert scores == [0.1, 0.5, 0.9]


def played(one: TeacherTaskSource, num_steps: int) -> list[int]:
    """Draw and learn; scores follow from the tasks."""
    indices: list[int] = []
    for _ in range(num_steps):
        tasks = one.draw(16)
        one.learn([of_task(task, (task.index % 7) / 6) for task in tasks])
        indices += [task.index for task in tasks]
    return indices


@pytest.mark.parametrize("num_steps", [1, 3, 4, 5])
def test_a_loaded_source_continues_exactly_also_while_a_fit_is_under_way(num_steps: int):
    def made() -> TeacherTaskSource:
        config = alp_gmm.Config(fit_every=50, max_components=3)
        return taught(Boxed(few=[2]), alp_gmm.create(config, 1, np.random.default_rng(5)))

    one, copy = made(), made()
    played(one, num_steps)
    copy.load_state(json.loads(json.dumps(one.state())))
    assert played(copy, 4) == played(one, 4)
    assert copy.state() == one.state()
    one.close()
    copy.close()


def test_the_state_holds_the_cursors_of_visited_cells_alone():
    one = taught(Boxed(highest=60), at_length(5))
    assert one.state()["num_seen"] == {}
    one.draw(4)
    (num,) = one.state()["num_seen"].values()
    assert num >= 4


class Closing(Fixed):
    closed = False

    def close(self) -> None:
        self.closed = True


def test_closing_ends_the_teachers_thread():
    teacher: Any = Closing(0.5)
    taught(Boxed(), teacher).close()
    assert teacher.closed
