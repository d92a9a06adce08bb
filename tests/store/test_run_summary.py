"""What a run's facts say of entropy and accuracy, and of its objective."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, cast

import pytest

from store.ledger.queries import Reading
from store.ledger.query_rows import MetricRow, StageRow, TaskSetRow
from store.run_summary import acts_on_entropy, entropy_laws, what_looking_cost

PLAIN = {"estimator": "rloo", "shapers": [], "terms": ["kl"], "kl": 0.0, "controllers": []}
STAGES = [StageRow(i, name, 10 * (i - 1), 10, 0.0, 10 * i, "budget", "", "") for i, name in ((1, "a"), (2, "b"))]


def _accuracy(entropy: float, ceiling: float) -> float:
    return ceiling + 0.3 - 0.3 * math.exp(entropy)


def _boundaries() -> dict[str, dict[str, dict[str, float | None]]]:
    entropy: dict[str, dict[str, float | None]] = {
        "0": {"a": 1.0, "b": 0.9}, "1": {"a": 0.2, "b": 0.8}, "2": {"a": 0.3, "b": 0.1},
    }  # fmt: skip
    accuracy = {i: {n: _accuracy(h or 0.0, 0.45) for n, h in row.items()} for i, row in entropy.items()}
    return {"entropy_token": entropy, "pass_1": accuracy}


def _inside(steps: range, name: str, ceiling: float) -> list[MetricRow]:
    rows = []
    for i, step in enumerate(steps, start=1):
        h = 0.9 - 0.08 * i
        rows.append(MetricRow(step, "eval_entropy_token", name, None, h, 4))
        rows.append(MetricRow(step, "eval_pass_1", name, None, _accuracy(h, ceiling), 4))
    return rows


def test_a_law_is_of_a_stage_and_its_environment() -> None:
    (law,) = entropy_laws(_boundaries(), STAGES[:1], _inside(range(2, 9), "a", 0.45) + _inside(range(2, 9), "b", 0.1))
    assert (law["stage"], law["environment"], law["num_points"], law["why_not"]) == (1, "a", 9, None)
    assert law["ceiling"] == pytest.approx(0.45)
    assert law["rise"] == pytest.approx(0.45 - _accuracy(0.2, 0.45))


@pytest.mark.parametrize("stages", [STAGES[:1], [StageRow(1, None, 0, 10, 0.0, 10, "budget", "", "")]])
def test_there_is_no_law_across_a_change_of_held_out_tasks(stages: list[StageRow]) -> None:
    def law(*sets: TaskSetRow) -> dict[str, Any]:
        found = entropy_laws(_boundaries(), stages, _inside(range(2, 9), "a", 0.45), sets)
        return next(law for law in found if law["environment"] == "a")

    def of(sha256: str, first: int, last: int, name: str = "a") -> TaskSetRow:
        return TaskSetRow(name, "easy", "anchor", sha256, first, last)

    changed = law(of("old", 0, 0), of("new", 1, 2))
    assert (changed["why_not"], changed["ceiling"]) == ("its held-out tasks changed on the way", None)
    for elsewhere in (
        (of("old", 0, 1), of("new", 2, 2)),
        (of("old", 0, 2), of("old", 0, 0, "b"), of("new", 1, 2, "b")),
    ):
        assert law(*elsewhere)["why_not"] is None


def test_where_its_conditions_do_not_hold_there_are_no_numbers_but_the_reason() -> None:
    few = entropy_laws(_boundaries(), STAGES, _inside(range(12, 15), "b", 0.45))
    assert [(law["stage"], law["num_points"], law["ceiling"]) for law in few] == [(2, 5, None)]
    assert few[0]["why_not"] == "5 points, and 8 are needed"


def test_in_flat_mode_all_stages_are_one() -> None:
    flat = [StageRow(i, None, 10 * (i - 1), 10, 0.0, 10 * i, "budget", "", "") for i in (1, 2)]
    laws = entropy_laws(_boundaries(), flat, [])
    assert [(law["stage"], law["environment"], law["num_points"]) for law in laws] == [(None, "a", 3), (None, "b", 3)]


@pytest.mark.parametrize(
    "objective",
    [
        {**PLAIN, "shapers": ["repo_r"]},
        {**PLAIN, "kl": 0.1},
        {**PLAIN, "controllers": [{"type": "geometric"}]},
        {**PLAIN, "plans": ["tempered"]},
    ],
)
def test_something_may_act_on_entropy(objective: dict[str, Any]) -> None:
    assert acts_on_entropy(objective)
    assert not acts_on_entropy(PLAIN)


def test_held_out_tasks_that_could_not_be_scored_were_played_and_cost_as_much() -> None:
    def row(metric: str, category: str, n: int) -> MetricRow:
        return MetricRow(2, metric, "book", category, None, n)

    looks = [
        row(f"eval_{name}", *of)
        for name, n in (("pass_1", 0), ("entropy_token", 8))
        for of in (("easy", n), ("hard", 8))
    ]
    read = SimpleNamespace(steps=lambda name: [], measurements=lambda name: [], evaluations=lambda name: looks)
    spec = {"evaluate": {"samples": 4, "greedy": True}}
    cost = what_looking_cost(cast(Reading, read), "a", spec, {"seconds_evaluate": 2.0})
    assert cost["parts"]["inside stages"] == {"looks": 1, "passes": 5 * 16, "seconds": 2.0}
