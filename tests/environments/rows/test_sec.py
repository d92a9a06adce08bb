"""The countdown rows of "Self-Evolving Curriculum" (arXiv 2505.14970): see tests/data/sec/NOTICE.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from environments import Environment, EnvironmentSource, first_tasks

DATA = Path(__file__).parents[2] / "data" / "sec"


@pytest.fixture(scope="module")
def countdown() -> Environment:
    options = {
        "train": "countdown_train.parquet",
        "holdout": "countdown_test.parquet",
        "reward": "countdown",
        "category": "extra_info.difficulty",
        "answer": "boxed",
    }
    return EnvironmentSource("countdown", "rows", options, str(DATA)).create()


def test_levels_one_to_three_are_trained_on_and_the_fourth_only_evaluated(countdown):
    assert [(c.name, c.trainable, countdown.size(c.name)) for c in countdown.categories] == [
        ("1", True, 1200),
        ("2", True, 1200),
        ("3", True, 1200),
        ("4", False, 200),
    ]
    assert (countdown.left_out, countdown.num_left_out, countdown.remarks) == ((), 0, ())
    assert countdown.scores_in_process


@pytest.mark.parametrize("level", ["1", "2", "3", "4"])
def test_every_level_has_enough_to_evaluate_on(countdown, level):
    for pool in ("anchor", "select"):
        tasks = first_tasks(countdown, level, pool, 64)
        assert len(tasks) == 64
        assert {countdown.pool(task) for task in tasks} == {pool}
    assert not first_tasks(countdown, level, "final", 64)


def test_a_task_is_the_published_prompt_with_numbers_and_target(countdown):
    task = countdown.task("1", 0)
    assert task.data == {"truth": {"numbers": "66,5,86", "target": 244}}
    (message,) = task.messages
    assert message["role"] == "user"
    assert "Using the numbers [66, 5, 86], create an equation that equals 244" in message["content"]
    assert message["content"].endswith("Assistant: Let me solve this step by step.")


@pytest.mark.parametrize("level", ["1", "2", "3"])
def test_references_are_worth_one_and_other_replies_are_not(countdown, level):
    for index in (0, 500, 1100):
        task = countdown.task(level, index)
        assert task.answer.startswith("\\boxed{")
        assert countdown.score(task, f"So 1 + 1 is \\boxed{{2}}, no: {task.answer}.").value == 1.0
        assert countdown.score(task, task.answer.removeprefix("\\boxed")).value == 0.0
        assert countdown.score(task, "\\boxed{}").value == 0.0
