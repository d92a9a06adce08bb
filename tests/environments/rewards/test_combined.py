import pytest

from environments.rewards import NOT_APPLIED, make_reward
from tests.environments.rewards.scoring import judge, worth

GRADERS = "tests.environments.rewards.graders"
SUMS = {"type": f"{GRADERS}:only_sums", "weight": 3}


def test_the_mean_by_weight_with_each_part_as_a_component():
    score = judge([{"type": "exact", "weight": 3}, {"type": "exact", "ignore_case": True}], "paris", "Paris")
    assert score.value == 0.25
    assert score.correct is False
    assert score.components == {"exact": 0.0, "exact_2": 1.0}


def test_it_is_correct_when_the_mean_is_one_or_when_the_named_part_is():
    parts = ["exact", {"type": "regex", "pattern": "[a-z]+"}]
    assert judge(parts, "paris", "paris").correct
    assert not judge(parts, "Paris", "Paris").correct
    named = {"type": "combined", "parts": parts, "correct": "exact"}
    assert judge(named, "Paris", "Paris").correct
    assert judge(named, "Paris", "Paris").value == 0.5
    assert not judge(named, "rome", "Paris").correct


def test_a_weight_of_zero_is_for_reading_only():
    score = judge(["exact", {"type": "regex", "pattern": "[a-z]+", "weight": 0}], "Paris", "Paris")
    assert (score.value, score.components) == (1.0, {"exact": 1.0, "regex": 0.0})


def test_a_part_that_does_not_apply_is_left_out():
    row = {"solution": "4", "kind": "sum"}
    assert worth(["exact", SUMS], "4", "5", **row) == 0.75
    other = judge(["exact", SUMS], "4", "5", **{**row, "kind": "text"})
    assert (other.value, other.components) == (0.0, {"exact": 0.0})


def test_where_nothing_applies_there_is_no_score():
    score = judge([SUMS, {"type": "exact", "weight": 0}], "4", "5", kind="text", solution="4")
    assert score.reason == NOT_APPLIED
    assert judge(f"{GRADERS}:only_sums", "4", "5", kind="text", solution="4").reason == NOT_APPLIED


def test_an_unscorable_part_makes_the_whole_unscorable_by_name():
    assert judge(["exact", f"{GRADERS}:bad"], "nan", "5").reason.startswith("bad: bad value: float, not finite")


def test_it_runs_in_process_reads_rows_and_takes_time_as_its_parts_do():
    quick = make_reward(["exact", "numeric"])
    assert (quick.in_process, quick.needs_row, quick.seconds) == (True, False, 0.0)
    tests = {"type": "code_tests", "limit_s": 4}
    slow = make_reward([tests, tests, f"{GRADERS}:parts"])
    assert (slow.in_process, slow.needs_row, slow.seconds) == (False, True, 2 * make_reward(tests).seconds)
    assert slow.seconds >= 8


def test_a_truth_that_one_part_refuses_is_refused_in_its_name():
    with pytest.raises(ValueError, match=r"numeric: expected a number .*'Paris'"):
        make_reward(["exact", "numeric"]).check("Paris")


def test_a_reference_is_one_that_all_parts_like():
    both = make_reward(["exact", "numeric"])
    assert both.reference("1,000") == "1,000"
    by_text = make_reward([{"type": "choice", "options": "choices"}, "exact"])
    assert (by_text.reference("B"), by_text.reference(1)) == ("B", None), "`1` is judged by its row alone"
    assert make_reward(["exact", f"{GRADERS}:parts"]).reference("a") == "a", "not tried: it could run foreign code"


@pytest.mark.parametrize("weights", [(0.1, 0.2, 0.3), (1e-9, 1e9, 3.0), (1 / 3, 1 / 3, 1 / 3)])
def test_rounding_never_carries_the_mean_beyond_one(weights):
    score = judge([{"type": "exact", "weight": weight} for weight in weights], "a", "a")
    assert score.correct
    assert score.value == pytest.approx(1.0)
