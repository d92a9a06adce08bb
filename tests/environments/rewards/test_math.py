import signal

import pytest

from environments.rewards import make_reward
from tests.environments.rewards.scoring import judge

pytest.importorskip("math_verify")


@pytest.mark.parametrize(
    ("answer", "truth", "value"),
    [
        (r"\frac{1}{2}", "1/2", 1.0),
        ("0.5", r"$\frac12$", 1.0),
        (r"$\boxed{\frac{2}{4}}$", r"\frac{1}{2}", 1.0),
        ("1+x^2", "x^2+1", 1.0),
        (r"\{2,1\}", r"\{1,2\}", 1.0),
        ("The answer is $3$.", "3", 1.0),
        ("2^{1/2}", r"\sqrt{2}", 1.0),
        ("x=5", "5", 1.0),
        (r"\pi/2", r"\frac{\pi}{2}", 1.0),
        ("7", ["6", "7"], 1.0),
        ("42", 42, 1.0),
        ("1/3", "0.333", 0.0),
        ("x^2+2", "x^2+1", 0.0),
        ("12 or 13", "12", 0.0),
        ("", "5", 0.0),
        ("I do not know", "5", 0.0),
        ("x" * 30_000, "x", 0.0),
    ],
)
def test_worked_cases(answer, truth, value):
    score = judge("math", answer, truth)
    assert score.value == value
    assert score.correct is (value == 1.0)


def test_names_of_variables_count_unless_told():
    assert judge("math", "y + 1", "x + 1").value == 0.0
    assert judge({"type": "math", "strict": False}, "y + 1", "x + 1").value == 1.0


def test_a_truth_that_cannot_be_read_makes_its_attempts_unscorable():
    score = judge("math", "5", r"\boxed{}")
    assert score.value is None
    assert score.reason is not None
    assert "cannot read the truth" in score.reason


def test_no_alarm_is_set(monkeypatch, capfd):
    monkeypatch.setattr(signal, "alarm", None)
    monkeypatch.setattr(signal, "setitimer", None)
    assert judge("math", "2/4", "1/2").value == 1.0
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("truth", "message"), [("", "found ''"), ([], "an empty list"), (True, "found True")])
def test_what_is_no_expression_is_refused(truth, message):
    with pytest.raises(ValueError, match=message):
        make_reward("math").check(truth)


@pytest.mark.parametrize("truth", [r"\frac{1}{2}", ["x^2", "y"], 0.5])
def test_a_reference_is_worth_one(truth):
    assert judge("math", make_reward("math").reference(truth), truth).correct
