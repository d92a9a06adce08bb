"""Tasks that are not admitted: nobody who looks for tasks gives them, and nothing else changes its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from environments import (
    Admission,
    Environment,
    EnvironmentFault,
    Task,
    TaskStream,
    first_tasks,
    training_roster,
)
from environments.pools import SEARCH
from tests.environments.fakes import create
from tests.environments.rows.making import made, sums


class Even(Admission):
    """Admits every other task."""

    def admits(self, task: Task) -> bool:
        return task.index % 2 == 0

    def barred(self, environment: Environment, category: str) -> np.ndarray:  # type: ignore[type-arg]
        is_table = environment.indices(category, "train") is not None
        return np.arange(1, environment.size(category) or 0, 2) if is_table else np.empty(0, np.int64)


class Nothing(Even):
    def admits(self, task: Task) -> bool:
        return False

    def barred(self, environment: Environment, category: str) -> np.ndarray:  # type: ignore[type-arg]
        return np.arange(environment.size(category) or 0)


def environments(folder: Path) -> list[tuple[Environment, str]]:
    """One that never ends, of few different tasks, one that ends, and a table."""
    return [
        (create("fake", distinct=3000), "easy"),
        (create("fake", size=60), "easy"),
        (made(folder, sums(90)), "all"),
    ]


def test_streams_and_held_out_tasks_are_the_admitted_ones_in_the_same_order(tmp_path: Path) -> None:
    for environment, category in environments(tmp_path):
        everything = [task.index for task in TaskStream(environment, category, 5).draw(30)]
        admitted = [task.index for task in TaskStream(environment, category, 5, Even()).draw(10)]
        assert admitted == [index for index in everything if index % 2 == 0][:10]
        held_out = [task.index for task in first_tasks(environment, category, "anchor", 8)]
        few = [task.index for task in first_tasks(environment, category, "anchor", 2, Even())]
        assert few == [index for index in held_out if index % 2 == 0][:2]


def test_rosters_hold_admitted_tasks_alone(tmp_path: Path) -> None:
    for environment, category in environments(tmp_path):
        roster = training_roster(environment, category, 3, 40, admission=Even())
        assert len(roster)
        assert not (roster % 2).any()
        assert (np.diff(roster) > 0).all()


def test_a_category_without_an_admitted_task_says_what_it_lacks(tmp_path: Path) -> None:
    for environment, category in environments(tmp_path):
        with pytest.raises(EnvironmentFault, match="held out, or too long for the policy"):
            TaskStream(environment, category, 5, Nothing()).draw(1)
        with pytest.raises(EnvironmentFault, match="held out, or too long for the policy"):
            training_roster(environment, category, 5, 40, admission=Nothing())


def test_an_endless_category_of_ever_new_tasks_without_an_admitted_one_is_given_up() -> None:
    """Told by the number of tasks made: ever new tasks are never stale, so the search would not end by itself."""
    environment = create("fake")
    made_so_far = iter(range(5 * SEARCH))
    task = environment.task
    environment.task = lambda category, index: (next(made_so_far), task(category, index))[1]  # type: ignore[method-assign]
    with pytest.raises(EnvironmentFault, match="held out, or too long for the policy"):
        training_roster(environment, "easy", 5, 40, admission=Nothing())
