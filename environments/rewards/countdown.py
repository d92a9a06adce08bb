"""Countdown: an expression over given numbers, each used exactly once, that comes to a target.

The truth is `{numbers: [66, 5, 86], target: 244}`, the numbers as a list or as text (`"66,5,86"`). The answer is an
expression of + - * / and parentheses; an `= 244` behind it, with the target, is passed over. Worth 1 if it hits the
target, `format_value` if it uses every number once and has another value, 0 for everything else. It is worked out
exactly.

Compared with the published code (as redistributed in the repository Vincent-La/cofa; the original is not verified):
a sign before a number or parenthesis is allowed in both. There anything in a box earns the 0.1, also nonsense and
other numbers; here only a well-formed expression of the right numbers. There `**`, `//` and decimal points pass,
here they do not; there `= 244` does not, here it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from environments.contracts import Score
from environments.options import Options
from environments.rewards.arithmetic import ArithmeticExpression, Malformed, expression_for
from environments.rewards.contracts import AnswerReward, Attempt

SOURCE = "Self-Evolving Curriculum (arXiv 2505.14970), its countdown reward"

MOST_NUMBERS = 10
LARGEST = 10**9


class Config(Options):
    """Options of countdown."""

    format_value: float = Field(default=0.1, ge=0, lt=1)
    """Value of a well-formed expression of the right numbers that misses the target; published: 0.1 in training, 0 in
    evaluation. It is never correct."""


class Countdown(AnswerReward):
    """1, `format_value` or 0, as the module says."""

    in_process = True
    longest = 500  # ten numbers of ten digits, in many parentheses

    def __init__(self, config: Config) -> None:
        self._format_value = config.format_value

    def judge(self, answer: str, attempt: Attempt) -> Score:
        """Read the expression, look at its numbers, work it out."""
        numbers, target = _problem(attempt.truth)
        text, equals, result = answer.partition("=")
        if equals and result.strip() != str(target):
            return Score.of(0.0)
        try:
            expression = ArithmeticExpression(text)
            if sorted(expression.numbers) != sorted(numbers):
                return Score.of(0.0)
            hit = expression.value() == target
        except Malformed:
            return Score.of(0.0)
        return Score.of(1.0 if hit else self._format_value)

    def check(self, truth: Any) -> None:
        """Refuse what is no problem; whether it has a solution is not looked at."""
        _problem(truth)

    def reference(self, truth: Any) -> str | None:
        """Find a solution by search: a millisecond or so for three to five numbers; None where there is none."""
        numbers, target = _problem(truth)
        return expression_for(numbers, target) if len(numbers) <= 6 else None


def _problem(truth: Any) -> tuple[tuple[int, ...], int]:
    """Give the numbers and the target."""
    if not isinstance(truth, Mapping) or not {"numbers", "target"} <= set(truth):
        raise ValueError(f"expected a map with numbers and target as truth, found {truth!r}")
    given = truth["numbers"]
    listed = given.split(",") if isinstance(given, str) else given
    try:
        numbers, target = tuple(_whole(one) for one in listed), _whole(truth["target"])
    except (OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"expected whole numbers in numbers and target, found {truth!r}") from error
    if not 1 <= len(numbers) <= MOST_NUMBERS or not all(0 <= number <= LARGEST for number in numbers):
        raise ValueError(f"expected 1 to {MOST_NUMBERS} numbers from 0 to {LARGEST}, found {given!r}")
    return numbers, target


def _whole(value: Any) -> int:
    number = int(value)
    if isinstance(value, bool) or (not isinstance(value, str) and number != value):
        raise ValueError(f"{value!r} is no whole number")
    return number


def create(config: Config) -> Countdown:
    """Build the reward of a spec's section."""
    return Countdown(config)
