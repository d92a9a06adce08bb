"""Rosters: which training tasks there are to choose among."""

from __future__ import annotations

import numpy as np
import pytest

from environments import EnvironmentFault, EnvironmentSource, TaskStream, pool_of, training_roster
from tests.environments.fakes import create
from tests.environments.rows.making import made, sums


def test_an_endless_category_gives_the_first_tasks_that_its_stream_would() -> None:
    roster = training_roster(create("fake"), "easy", 7, 50)
    assert len(roster) == 50
    assert roster.tolist() == [task.index for task in TaskStream(create("fake"), "easy", 7).draw(50)]
    assert roster.tolist() == training_roster(create("fake"), "easy", 7, 50).tolist()
    assert roster.tolist() != training_roster(create("fake"), "easy", 8, 50).tolist()


def test_a_category_that_ends_gives_all_its_training_tasks_or_a_sample_of_them() -> None:
    environment = create("fake", size=200)
    everything = [i for i in range(200) if pool_of(environment.task("easy", i).key) == "train"]
    assert training_roster(environment, "easy", 3, 4096).tolist() == everything
    some = training_roster(environment, "easy", 3, 60)
    assert len(some) == 60
    assert set(some.tolist()) < set(everything)
    assert (np.diff(some) > 0).all()
    assert some[-1] > everything[60], "not simply the first ones"


@pytest.mark.parametrize("size", [None, 500])
def test_a_task_is_listed_once_under_its_first_index(size: int | None) -> None:
    environment = create("fake", size=size, distinct=30)
    roster = training_roster(environment, "easy", 3, 4096)
    keys = {environment.task("easy", int(index)).key for index in roster}
    assert len(keys) == len(roster) == len({k for k in keys if pool_of(k) == "train"})


def test_known_indices_are_taken_as_they_are(tmp_path) -> None:
    environment = made(tmp_path, sums(90), category="meta.level")
    assert training_roster(environment, "2", 3, 5).tolist() == environment.indices("2", "train").tolist()


def test_a_closed_environment_lists_everything() -> None:
    closed = EnvironmentSource("red", "codebook", {"keys": 6}).create()
    name = closed.categories[0].name
    assert len(training_roster(closed, name, 0, 4096)) == len(
        {closed.distinct(closed.task(name, i)) for i in range(closed.size(name) or 0)}
    )


def test_nothing_to_train_on_is_said() -> None:
    number = next(n for n in range(100) if pool_of(create("fake").task("easy", n).key) != "train")
    fake = create("fake", size=1)
    fake.task = lambda category, index: create("fake").task(category, number)  # type: ignore[method-assign]
    with pytest.raises(EnvironmentFault, match="every task found is held out"):
        training_roster(fake, "easy", 0, 10)


def test_who_waits_hears_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    monkeypatch.setattr("environments.display.EVERY_S", -1.0)
    training_roster(create("fake"), "easy", 0, 20, heard.append)
    assert heard[0] == "fake/easy: 0 of up to 20 tasks to choose among found"
    assert len(heard) > 20
