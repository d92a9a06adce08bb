import math

import numpy as np
import pytest

from environments import Score, Task
from environments.games import scaled
from tests.environments import fakes


@pytest.mark.parametrize(
    ("value", "correct", "expected"),
    [
        (1.0, None, (1.0, True)),
        (1 - 1e-10, None, (1 - 1e-10, True)),
        (1 - 1e-8, None, (1 - 1e-8, False)),
        (0.9, None, (0.9, False)),
        (0.3, True, (0.3, True)),
        (0.0, None, (0.0, False)),
        (0.3 + 0.1 + 0.6000000000000002, None, (1.0, True)),
        (-1e-17, None, (0.0, False)),
    ],
)
def test_partial_credit_is_value_and_not_correct(value, correct, expected):
    score = Score.of(value, correct)
    assert (score.value, score.correct) == expected


@pytest.mark.parametrize("value", [2.0, -0.1, math.nan, math.inf])
def test_a_value_outside_the_unit_interval_is_unscorable_and_not_zero(value):
    assert Score.of(value).value is None
    assert str(Score.of(value).reason).startswith("bad value: float")


@pytest.mark.parametrize(("total", "expected"), [(0.1 + 0.1 + 0.1, 1.0), (0.30001, None), (-1e-12, 0.0)])
def test_a_sum_that_rounding_put_beyond_its_range_is_at_its_end(total, expected):
    assert scaled(total, (0.0, 0.3), 1.0, {}).value == expected


@pytest.mark.parametrize("correct", [True, False, np.True_, np.False_, 1, 0])
def test_correct_is_true_or_false(correct):
    assert Score.of(0.5, correct).correct is bool(correct)


@pytest.mark.parametrize(
    ("correct", "said"), [("no", "a str"), (math.nan, "a number other than 0 and 1"), (2, "a number"), ([], "a list")]
)
def test_what_is_neither_true_nor_false_is_unscorable(correct, said):
    score = Score.of(0.5, correct)
    assert (score.value, score.correct) == (None, None)
    assert score.reason.startswith(f"bad value: correct is {said}")


def test_a_bad_value_is_told_by_its_type_and_its_fault_alike_for_all_that_share_them():
    reasons = {value: Score.of(value).reason for value in (2.0, 3.5, -0.1, 7)}
    assert reasons[2.0] == reasons[3.5] == "bad value: float above 1; a value lies in 0..1"
    assert reasons[-0.1] == "bad value: float below 0; a value lies in 0..1"
    assert reasons[7] == "bad value: int above 1; a value lies in 0..1"


def test_the_content_key_is_the_conversation_alone():
    messages = ({"role": "user", "content": "2 + 2?"},)
    task = Task("sums", "easy", 0, messages, "4")
    elsewhere = Task("other", "hard", 7, ({"content": "2 + 2?", "role": "user"},), None)
    assert task.key == elsewhere.key
    assert len(task.key) == 32
    assert task.key != Task("sums", "easy", 0, ({"role": "user", "content": "2 + 3?"},), "4").key


def test_an_environment_that_only_scores_plays_one_turn():
    fake = fakes.create("fake")
    task = fake.task("easy", 3)
    turn = fake.start(task).step("3")
    assert (turn.done, turn.messages, turn.score) == (True, (), Score.of(1.0))
