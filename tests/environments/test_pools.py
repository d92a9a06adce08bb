import subprocess
import sys
from asyncio import CancelledError
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from environments import Environment, EnvironmentFault, EnvironmentSource, belongs, first_tasks, pool_of
from environments.pools import make_task
from tests.environments import fakes
from tests.source_lines import place

POOLS = ("train", "anchor", "select", "final")
SHARES = {"train": 0.7, "anchor": 0.1, "select": 0.1, "final": 0.1}


def test_shares_are_seven_one_one_one():
    fake = fakes.create("fake")
    pools = [pool_of(fake.task("easy", index).key) for index in range(20_000)]
    for pool, share in SHARES.items():
        assert pools.count(pool) / len(pools) == pytest.approx(share, abs=0.01)


def test_the_split_never_changes():
    assert " ".join(pool_of(key) for key in "abcdefgh") == "final train select train train anchor anchor final"


def test_another_process_splits_the_same_way():
    code = "from environments import pool_of; print(*[pool_of(str(i)) for i in range(200)])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [pool_of(str(i)) for i in range(200)]


@given(st.sampled_from(POOLS), st.integers(1, 30), st.integers(1, 200), st.sampled_from([None, 7, 150]))
def test_first_tasks_are_distinct_and_of_their_pool(pool, n, distinct, size):
    fake = fakes.create("fake", distinct=distinct, size=size)
    tasks = first_tasks(fake, "easy", pool, n)
    keys = [task.key for task in tasks]
    assert len(set(keys)) == len(keys) <= n
    assert all(pool_of(key) == pool for key in keys)
    number_there = len({k for i in range(size or 500) if pool_of(k := fake.task("easy", i).key) == pool})
    assert len(keys) == min(n, number_there)


def test_what_is_given_in_the_place_of_a_task_is_a_fault_that_says_so():
    class Lost(Environment):
        name = "lost"
        categories = ()

        def size(self, category):
            return None

        def task(self, category, index):
            return None

    with pytest.raises(
        EnvironmentFault, match=r"lost: task\('easy', 3\) returned a NoneType, not an environments.Task"
    ):
        make_task(Lost(), "easy", 3)


@pytest.mark.parametrize(
    "error",
    [ValueError("broken row"), SystemExit(0), GeneratorExit(), CancelledError(), BaseExceptionGroup("", [EOFError()])],
)
def test_whatever_a_task_raises_is_a_fault_that_names_it_and_the_line(monkeypatch, error):
    def task(environment, category, index):
        raise error

    monkeypatch.setattr(fakes.Fake, "task", task)
    with pytest.raises(EnvironmentFault, match=rf"task\('easy', 3\) raised {type(error).__name__}.*; mend") as fault:
        make_task(fakes.create("fake"), "easy", 3)
    assert place(task) in str(fault.value)


def test_an_interrupt_while_a_task_is_made_is_no_fault_of_it(monkeypatch):
    monkeypatch.setattr(fakes.Fake, "task", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        make_task(fakes.create("fake"), "easy", 3)


def test_pools_never_meet():
    fake = fakes.create("fake", distinct=3000)
    keys = [{task.key for task in first_tasks(fake, "easy", pool, 60)} for pool in POOLS]
    assert all(len(some) == 60 for some in keys)
    assert len(set.union(*keys)) == 240


def test_an_endless_category_with_few_tasks_is_not_searched_for_ever():
    fake = fakes.create("fake", distinct=18)
    asked: list[int] = []
    real = fake.task
    fake.task = lambda category, index: asked.append(index) or real(category, index)  # type: ignore[method-assign]
    assert len(first_tasks(fake, "easy", "train", 64)) < 18
    assert len(asked) < 1100


@pytest.mark.parametrize("pool", POOLS)
def test_a_closed_environment_has_all_its_tasks_in_every_pool(pool):
    book = EnvironmentSource("red", "codebook").create()
    tasks = first_tasks(book, "16", pool, 64)
    assert [task.index for task in tasks] == list(range(64))
    assert all(belongs(book, task, other) for task in tasks for other in POOLS)
