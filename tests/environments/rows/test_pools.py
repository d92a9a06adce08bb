from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from environments import Category, Environment, EnvironmentFault, TaskStream, belongs, first_tasks, pool_of
from environments.checker import examine
from environments.pools import half_of
from environments.sources import EnvironmentSource
from tests.environments.rows.making import made, sums, write_jsonl


class Plain(Environment):
    """The same rows, from an environment that knows no index by its pool: the slow way for everything."""

    def __init__(self, rows: Environment) -> None:
        self.name, self.version, self._rows = rows.name, rows.version, rows

    @property
    def categories(self) -> list[Category]:
        return list(self._rows.categories)

    def size(self, category):
        return self._rows.size(category)

    def task(self, category, index):
        return self._rows.task(category, index)

    def pool(self, task):
        return self._rows.pool(task)


def with_holdout(folder, num_training=60, num_held_out=200, shared=10):
    write_jsonl(folder / "test.jsonl", sums(num_held_out, start=1000 - shared))
    training = [*sums(num_training), *sums(shared, start=1000 - shared)]
    return made(folder, training, holdout="test.jsonl", category="meta.level")


def tasks_of(environment):
    return [environment.task(c.name, i) for c in environment.categories for i in range(environment.size(c.name))]


def test_without_a_held_out_file_pools_follow_from_content_keys(tmp_path):
    environment = made(tmp_path, sums(300))
    tasks = tasks_of(environment)
    assert {environment.pool(task) for task in tasks} == {None}
    for pool in ("train", "anchor", "select", "final"):
        assert [t.index for t in tasks if pool_of(t.key) == pool] == list(environment.indices("all", pool))


def test_a_held_out_file_is_halved_and_never_trained_on(tmp_path):
    environment = with_holdout(tmp_path)
    tasks = tasks_of(environment)
    pools = {task.key: environment.pool(task) for task in tasks}
    held_out = [task for task in tasks if pools[task.key] != "train"]
    assert len(held_out) == 200
    assert all(pools[task.key] == half_of(task.key) for task in held_out)
    counts = Counter(pools.values())
    assert set(counts) == {"train", "anchor", "select"}
    assert min(counts["anchor"], counts["select"]) > 70
    assert counts["train"] == 60
    assert environment.remarks == ("10 rows to train on left out: the same conversations are held out",)
    assert environment.num_left_out == 0
    assert all(belongs(environment, task, pools[task.key]) for task in tasks)


def test_training_rows_come_first_in_the_order_of_the_file(tmp_path):
    environment = with_holdout(tmp_path, shared=0)
    asked = [environment.task("2", i).messages[0]["content"] for i in range(environment.size("2"))]
    assert asked[:3] == ["What is 1 + 1?", "What is 3 + 1?", "What is 5 + 1?"]
    assert asked[30] == "What is 1001 + 1?"


@pytest.mark.parametrize("has_holdout", [False, True])
def test_what_is_drawn_is_what_would_be_drawn_by_making_every_task(tmp_path, has_holdout):
    environment = with_holdout(tmp_path) if has_holdout else made(tmp_path, sums(90), category="meta.level")
    for category in ("1", "2"):
        known, slow = (TaskStream(one, category, seed=7) for one in (environment, Plain(environment)))
        for n in (1, 5, 40, 1, 64):
            assert [t.index for t in known.draw(n)] == [t.index for t in slow.draw(n)]
            assert known.state() == slow.state()
        for pool in ("train", "anchor", "select"):
            first = [t.index for t in first_tasks(environment, category, pool, 12)]
            assert first == [t.index for t in first_tasks(Plain(environment), category, pool, 12)]


def test_a_million_training_rows_before_the_held_out_ones_are_not_made_to_find_these(tmp_path):
    environment = with_holdout(tmp_path)
    made_ = []
    task = environment.task
    environment.task = lambda category, index: made_.append(index) or task(category, index)
    assert len(first_tasks(environment, "1", "anchor", 20)) == 20
    assert len(made_) == 20


def test_a_category_too_small_to_train_on_is_only_evaluated_and_that_is_said(tmp_path):
    held_out = next(row for row in sums(100) if pool_of(made(tmp_path, [row]).task("all", 0).key) == "anchor")
    rows = [*(row for row in sums(40) if row["meta"]["level"] == 1), {**held_out, "meta": {"level": 2}}]
    environment = made(tmp_path, rows, category="meta.level")
    assert {c.name: c.trainable for c in environment.categories} == {"1": True, "2": False}
    assert environment.remarks == ("category 2 is only evaluated: none of its one row falls to the training pool",)


def test_all_training_rows_held_out_leaves_nothing_to_train_on(tmp_path):
    write_jsonl(tmp_path / "test.jsonl", sums(6))
    environment = made(tmp_path, sums(6), holdout="test.jsonl")
    assert [c.trainable for c in environment.categories] == [False]
    assert environment.remarks[0].startswith("6 rows to train on left out")


def test_a_stream_of_more_rows_than_there_are_now_is_refused(tmp_path):
    stream = TaskStream(made(tmp_path, sums(50)), "all", seed=1)
    stream.draw(25)
    shorter = TaskStream(made(tmp_path, sums(20)), "all", seed=1)
    with pytest.raises(EnvironmentFault, match=r"stands at task \d+ of it, but now it has only 20"):
        shorter.load_state(stream.state())


def test_the_checker_finds_nothing_wrong(tmp_path):
    write_jsonl(tmp_path / "test.jsonl", sums(300, start=10_000))
    write_jsonl(tmp_path / "train.jsonl", sums(1500))
    options = {"train": "train.jsonl", "holdout": "test.jsonl", "reward": "exact", "prompt": "question"}
    report = examine(EnvironmentSource("sums", "rows", options, str(tmp_path)), tasks=4)
    assert [(f.rule, f.sentence) for f in report.findings] == []
    (facts,) = report.categories
    assert facts.pools["train"] == 250
    assert np.all([facts.pools[pool] > 100 for pool in ("anchor", "select")])


def test_rows_that_ask_the_same_are_told_with_how_many_are_evaluated(tmp_path: Path) -> None:
    rows = sums(30)
    assert made(tmp_path, rows).remarks == ()
    environment = made(tmp_path, [*rows, *rows, *rows[:5]])
    num_held_out = len(environment.indices("all", "anchor"))  # type: ignore[arg-type]
    (said,) = environment.remarks
    assert said.startswith(
        "65 rows ask 30 different things, also those that turn out too long for the policy: an evaluation asks "
        "each once, "
    )
    num_different = len(first_tasks(environment, "all", "anchor", 65))
    assert f"once, {num_different} of its {num_held_out} rows to evaluate on; " in said
