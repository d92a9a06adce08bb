"""Pools that will be measured and are empty."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from environments import ALL, Environment, EnvironmentFault, pool_of
from orchestrator.errors import UserError
from orchestrator.rollout.task_supply import check_supply
from orchestrator.spec import load_spec
from tests.environments.fakes import create
from tests.environments.rows.making import made, make, sums, write_jsonl
from tests.environments.test_admission import Nothing
from tests.orchestrator.specs import small

BY_SCORES = {"scheduler": {"type": "discounted_ucb", "reward": "gain"}}


def checked(environment: Environment, **sections: Any) -> list[str]:
    return check_supply(load_spec(small(**sections)), {environment.name: environment}, ALL)


def rows_of(pool: str, num: int) -> list[dict[str, Any]]:
    """Rows whose conversations fall to a pool."""
    messages = [({"role": "user", "content": row["question"]},) for row in sums(300)]
    from environments.contracts import canonical, key_of

    found = [row for row, asked in zip(sums(300), messages, strict=True) if pool_of(key_of(canonical(asked))) == pool]
    return found[:num]


def test_an_environment_that_would_never_be_measured_is_refused(tmp_path: Path) -> None:
    environment = made(tmp_path, [*rows_of("train", 9), "{", "{"])
    with pytest.raises(UserError) as refused:
        checked(environment)
    assert str(refused.value).startswith("environment rows: no task to be evaluated on (pool anchor)")
    assert "not valid JSON: 2 rows (first: train.jsonl:10: " in str(refused.value)
    assert "give it more different tasks" in str(refused.value)


def test_rows_that_say_the_same_are_counted_once_where_they_are_too_few(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="its 90 tasks are 9 different ones, and none of these falls to that pool; "):
        checked(made(tmp_path, rows_of("train", 9) * 10))


def test_held_out_categories_alone_do_not_measure_what_is_trained_on(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "test.jsonl", [{**row, "level": 2} for row in sums(40, start=100)])
    write_jsonl(tmp_path / "train.jsonl", [{**row, "level": 1} for row in sums(30)])
    environment = make(tmp_path, holdout="test.jsonl", category="level")
    assert {one.name: one.trainable for one in environment.categories} == {"1": True, "2": False}
    with pytest.raises(
        UserError, match=r"\(pool anchor\) among those that it trains on \(1; 2: held out only\), so it"
    ):
        checked(environment)


def test_a_category_that_is_never_measured_is_told(tmp_path: Path) -> None:
    rows = [
        *({**row, "level": 1} for row in [*rows_of("train", 9), *rows_of("anchor", 2)]),
        *({**row, "level": 2} for row in rows_of("train", 20)[9:]),
    ]
    environment = made(tmp_path, rows, category="level")
    assert checked(environment) == [
        "rows: category 2 has no task to be evaluated on (pool anchor): it is trained on and not measured, and the "
        "environment's numbers are means over the others that it trains on"
    ]


def test_what_a_scheduler_looks_at_is_wanted_only_where_it_looks(tmp_path: Path) -> None:
    environment = made(tmp_path, [*rows_of("train", 9), *rows_of("anchor", 2)])
    assert checked(environment) == []
    with pytest.raises(UserError, match=r"no task to be looked at by the scheduler \(pool select\).*`reward` is"):
        checked(environment, curriculum={"stages": 2, "stage": {"steps": 3}, **BY_SCORES})


def test_a_holdout_file_of_one_row_is_too_small_for_two_halves(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", sums(9))
    for number in range(50, 60):
        write_jsonl(tmp_path / "test.jsonl", sums(1, start=number))
        environment = make(tmp_path, holdout="test.jsonl")
        if not len(environment.indices("all", "anchor")):  # type: ignore[arg-type]
            break
    with pytest.raises(
        UserError, match="it has 10 tasks, and none of them falls to that pool; mend its data, or give it"
    ):
        checked(environment)


def test_a_category_that_cannot_be_trained_on_is_refused_before_the_run() -> None:
    with pytest.raises(EnvironmentFault, match="category easy: every task found is held out, or too long"):
        check_supply(load_spec(small()), {"fake": create("fake")}, Nothing())
