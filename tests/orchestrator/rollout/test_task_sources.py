"""Tasks chosen by a selection: the roster, what makes way for what, and what is told."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest

from environments import Environment, Task, training_roster
from orchestrator import registry
from orchestrator.played_group import PlayedGroup
from orchestrator.rollout.task_sources import LATEST, SelectionTaskSource
from orchestrator.selections.contracts import Selection, TaskResult
from tests.environments.fakes import create
from tests.orchestrator.rollout.episodes import of_task


class Scripted(Selection):
    """Gives what a test says, and keeps what it is told."""

    def __init__(self, num_tasks: int, script: Sequence[Sequence[int]]) -> None:
        super().__init__(num_tasks, np.random.default_rng(0))
        self.script, self.told, self.asked = list(script), list[TaskResult](), list[int]()

    def draw(self, n):
        self.asked.append(n)
        return np.array(self.script.pop(0)[:n], np.int64)

    def learn(self, tried):
        self.told += tried


def source(script: Sequence[Sequence[int]], environment: Environment | None = None) -> SelectionTaskSource:
    environment = environment or create("fake", size=100)
    roster = training_roster(environment, "easy", 0, 4096)
    return SelectionTaskSource(environment, "easy", roster, Scripted(len(roster), script))


def batch(made: SelectionTaskSource, n: int) -> list[Task]:
    made.begin_batch()
    return made.draw(n)


def result(task: Task, score: float = 0.5) -> PlayedGroup:
    return of_task(task, score, 0.25)


def test_positions_are_places_in_the_roster_and_results_find_back() -> None:
    made = source([[5, 0], [7]])
    tasks, later = batch(made, 2), batch(made, 1)
    assert [task.index for task in tasks + later] == made._roster[[5, 0, 7]].tolist()
    made.learn([result(later[0], 0.75), result(tasks[1], 0.25), result(create("fake").task("easy", 10**6))])
    made.learn([result(tasks[1])])
    assert isinstance(made.selection, Scripted)
    assert made.selection.told == [TaskResult(7, 1, 0.75, 8, 0.25), TaskResult(0, 0, 0.25, 8, 0.25)]


def test_what_the_batch_has_already_is_replaced_if_possible() -> None:
    made = source([[5, 6, 7], [5, 6, 8, 9, 3]])
    avoid = {made.environment.task("easy", int(made._roster[6])).key}
    tasks = made.draw(3, avoid)
    assert [task.index for task in tasks] == made._roster[[5, 7, 8]].tolist()
    assert made.selection.asked == [3, 5], "asked for more when it named what was there"
    made.learn([result(task) for task in tasks])
    assert [(one.position, one.step) for one in made.selection.told] == [(5, 0), (7, 0), (8, 0)]
    assert made.selection.clock == 1


def test_what_is_drawn_again_is_of_the_same_batch() -> None:
    made = source([[5, 6], [7], [8]])
    tasks = [*batch(made, 2), *made.draw(1), *batch(made, 1)]
    made.learn([result(task) for task in tasks])
    assert isinstance(made.selection, Scripted)
    assert [(one.position, one.step) for one in made.selection.told] == [(5, 0), (6, 0), (7, 0), (8, 1)]


@pytest.mark.parametrize("name", ["adarft", "mopps"])
def test_where_tasks_have_equal_prompts_every_prompt_still_comes_once_an_epoch(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = create("fake", size=1000)
    roster = training_roster(environment, "easy", 0, 4096)
    num = len(roster)
    says = {int(index): place - place % 5 // 4 for place, index in enumerate(roster)}  # the fifth what the fourth says
    monkeypatch.setattr(environment, "distinct", lambda task: str(says[task.index]))
    options = {"difficulty": "level"} if name == "adarft" else {"candidates": 1}
    config = registry.config_class("selections", name)(**options)
    numbers = {"difficulty": np.arange(float(num))}
    rng = np.random.default_rng(1)
    selection = registry.create("selections", config, num_tasks=num, rng=rng, numbers=numbers)
    made = SelectionTaskSource(environment, "easy", roster, selection)
    said = set[int]()
    while (selection.epoch if name == "adarft" else selection.epochs.epoch) == 0:
        said |= {says[task.index] for task in batch(made, 16)}
    assert said == set(says.values())


def test_a_task_comes_twice_only_where_there_are_no_others() -> None:
    size = next(n for n in range(3, 20) if len(training_roster(create("fake", size=n), "easy", 0, 99)) == 3)
    made = source([[0, 1, 2], [1, 0]], create("fake", size=size))
    tasks = made.draw(5)
    assert [task.index for task in tasks] == made._roster[[0, 1, 2, 1, 0]].tolist()
    assert made.selection.clock == 1, "everything was seen: no use in asking again"
    made.learn([result(task) for task in tasks])
    assert [one.position for one in made.selection.told] == [0, 1, 2, 1, 0]


def test_results_that_never_come_are_not_waited_for_forever() -> None:
    made = source([[step % 60] for step in range(LATEST + 30)])
    first = batch(made, 1)
    for _ in range(LATEST + 20):
        batch(made, 1)
    assert len(made.state()["awaited"]) <= LATEST
    gone = source([[1], *[[2]] * (LATEST + 5)])
    first = batch(gone, 1)
    for _ in range(LATEST + 5):
        batch(gone, 1)
    gone.learn([result(first[0])])
    assert gone.selection.told == []


def test_the_state_survives_json_and_knows_its_roster() -> None:
    made = source([[3, 1]])
    tasks = made.draw(2)
    other = source([])
    other.load_state(json.loads(json.dumps(made.state())))
    other.learn([result(task) for task in tasks])
    assert [(one.position, one.step) for one in other.selection.told] == [(3, 0), (1, 0)]
    with pytest.raises(Exception, match="not those that the run began with"):
        source([], create("fake", size=90)).load_state(made.state())
