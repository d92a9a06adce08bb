import time
from pathlib import Path

import pytest

from environments.rewards import Attempt, make_reward
from environments.rewards.countdown import expression_for
from tests.environments.rewards.scoring import judge

TRUTH = {"numbers": "66,5,86", "target": 244}
DATA = Path(__file__).parents[2] / "data" / "sec"


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("66 * 5 - 86", 1.0),
        ("66*5-86 = 244", 1.0),
        ("-86 + 5 * 66", 1.0),
        ("((66) * (5)) - +86", 1.0),
        ("66 + 5 + 86", 0.1),
        ("66 / 5 / 86", 0.1),
        ("66 - 5 * -86 = 244", 0.1),
        ("66 * 5 - 86 = 243", 0.0),
        ("244", 0.0),
        ("66 * 5", 0.0),
        ("66 * 5 - 86 + 5 - 5", 0.0),
        ("66 * 5 - 86 - 0", 0.0),
        ("66 // 5 - 86", 0.0),
        ("66 ** 5 - 86", 0.0),
        ("66.0 * 5 - 86", 0.0),
        ("066 * 5 - 86", 0.0),
        ("66 * 5 86", 0.0),
        ("66 5 86", 0.0),
        ("(66 * 5 - 86", 0.0),
        ("66 * 5 - 86)", 0.0),
        ("66 * 5 -", 0.0),
        ("66 x 5 - 86", 0.0),
        ("__import__('os') or 66 * 5 - 86", 0.0),
        ("\u0666\u0666 * 5 - 86", 0.0),
        ("66 * 5 - 86 = 244 = 244", 0.0),
        ("= 244", 0.0),
        ("", 0.0),
        (None, 0.0),
        ("(" * 300 + "66 * 5 - 86" + ")" * 100, 0.0),
        ("-" * 400 + "66 * 5 - 86", 0.0),
        ("66 * 5 - 86" + " " * 1000, 0.0),
    ],
)
def test_worked_cases(answer, value):
    score = judge("countdown", answer, TRUTH)
    assert score.value == value
    assert score.correct is (value == 1.0)


def test_division_is_exact_and_never_by_zero():
    assert judge("countdown", "8 / (3 - 8 / 3)", {"numbers": [3, 3, 8, 8], "target": 24}).value == 1.0
    assert judge("countdown", "1 / 3 * 3", {"numbers": [1, 3, 3], "target": 1}).correct
    assert judge("countdown", "5 / (3 - 3)", {"numbers": [3, 3, 5], "target": 1}).value == 0.0


def test_the_value_of_a_wrong_expression_can_be_set():
    assert judge({"type": "countdown", "format_value": 0}, "66 + 5 + 86", TRUTH).value == 0.0


@pytest.mark.parametrize(
    "truth",
    [
        None, "66,5", {"numbers": "1,2"}, {"target": 3}, {"numbers": "a,2", "target": 3}, {"numbers": [], "target": 3},
        {"numbers": [1.5, 2], "target": 3}, {"numbers": [1, 2], "target": None}, {"numbers": [True, 2], "target": 3},
        {"numbers": [-1, 2], "target": 3}, {"numbers": list(range(11)), "target": 3}, {"numbers": 7, "target": 3},
        {"numbers": [1, 10**10], "target": 3}, {"numbers": [1, 2], "target": float("inf")},
        {"numbers": [1, 2], "target": float("nan")},
    ],
)  # fmt: skip
def test_what_is_no_problem_is_refused(truth):
    with pytest.raises(ValueError, match="expected"):
        make_reward("countdown").check(truth)


@pytest.mark.parametrize(
    ("numbers", "target"),
    [([5], 5), ([3, 3, 8, 8], 24), ([3, 3, 7, 7], 24), ([0, 0, 5], 5), ([1, 1], 0), ([2, 3], -1),
     ([100, 75, 50, 25, 6, 3], 952)],
)  # fmt: skip
def test_a_solution_is_found_where_there_is_one(numbers, target):
    answer = expression_for(numbers, target)
    assert judge("countdown", answer, {"numbers": numbers, "target": target}).correct


def test_a_problem_without_a_solution_has_no_reference():
    reward = make_reward("countdown")
    assert reward.reference({"numbers": [1, 2], "target": 100}) is None
    assert reward.reference({"numbers": [1, 1, 1, 1, 1], "target": 7}) is None
    start = time.monotonic()
    assert reward.reference({"numbers": [97, 89, 83, 79, 73, 71], "target": 999_983}) is None
    assert time.monotonic() - start < 2
    assert reward.reference({"numbers": [1, 2, 3, 4, 5, 6, 7], "target": 28}) is None, "too many to search"


@pytest.mark.parametrize(("name", "levels"), [("train", (1, 2, 3)), ("test", (1, 2, 3, 4))])
def test_every_reference_of_the_published_rows_is_worth_one(name, levels):
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(DATA / f"countdown_{name}.parquet", columns=["reward_model", "extra_info"])
    rows = table.to_pylist()
    reward = make_reward("countdown")
    for level in levels:
        truths = [row["reward_model"]["ground_truth"] for row in rows if row["extra_info"]["difficulty"] == level]
        assert len(truths) >= 200
        for truth in truths[: 50 if level < 4 else 20]:
            reward.check(truth)
            answer = reward.reference(truth)
            assert answer is not None
            assert reward.score(Attempt(answer, answer, truth)).correct, (answer, truth)
