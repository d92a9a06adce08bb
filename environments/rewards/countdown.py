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

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate, combinations
from typing import Any

from pydantic import Field

from environments.contracts import Score
from environments.options import Options
from environments.rewards.contracts import AnswerReward, Attempt

SOURCE = "Self-Evolving Curriculum (arXiv 2505.14970), its countdown reward"

MOST_NUMBERS = 10
LARGEST = 10**9
DEEPEST = 50  # nested parentheses and signs
TOKEN = re.compile(r"\s*+((?:0|[1-9][0-9]{0,15}+)(?![0-9.])|[-+*/()])")
OPERATIONS: Mapping[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv
}  # fmt: skip

Number = int | Fraction
Numbers = tuple[int, ...]


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
        numbers, target = _problem(attempt.truth)
        text, equals, result = answer.partition("=")
        if not equals or result.strip() == str(target):
            with suppress(Malformed):
                used, value = evaluated(text)
                if sorted(used) == sorted(numbers):
                    return Score.of(1.0 if value == target else self._format_value)
        return Score.of(0.0)

    def check(self, truth: Any) -> None:
        """Refuse what is no problem; whether it has a solution is not looked at."""
        _problem(truth)

    def reference(self, truth: Any) -> str | None:
        """Find a solution by search: a millisecond or so for three to five numbers; None where there is none."""
        numbers, target = _problem(truth)
        return expression_for(numbers, target) if len(numbers) <= 6 else None


def _problem(truth: Any) -> tuple[tuple[int, ...], int]:
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


class Malformed(ValueError):
    """A text that is no expression, or one that divides by zero."""


def evaluated(text: str) -> tuple[list[int], Fraction]:
    """Read an expression of + - * /, signs and parentheses: its numbers as they stand, and its exact value.

    Raises Malformed if the text is something else, is nested too deeply, or divides by zero.
    """
    tokens = TOKEN.findall(text)
    if TOKEN.sub("", text).strip():
        raise Malformed("neither a number nor an operator")
    starts = accumulate((len(token) + 1 for token in tokens), initial=0)
    depths = accumulate((token == "(") - (token == ")") for token in tokens)
    try:
        tree = ast.parse(" ".join(tokens), mode="eval")
        value = _value(tree.body, dict(zip(starts, depths, strict=False)), 0)
    except (SyntaxError, ZeroDivisionError, MemoryError, RecursionError) as error:
        raise Malformed(str(error)) from error
    return [int(token) for token in tokens if token.isdigit()], value


def _value(node: ast.expr, depths: Mapping[int, int], num_signs: int) -> Fraction:
    """Work out a part; `depths` are the parentheses around each place, `num_signs` the signs around this part."""
    match node:
        case ast.Constant(value=int(number)) if depths[node.col_offset] + num_signs <= DEEPEST:
            return Fraction(number)
        case ast.UnaryOp(op=sign, operand=operand):
            value = _value(operand, depths, num_signs + 1)
            return -value if isinstance(sign, ast.USub) else value
        case ast.BinOp(left=left, op=operation, right=right) if type(operation) in OPERATIONS:
            values = (_value(part, depths, num_signs) for part in (left, right))
            return OPERATIONS[type(operation)](*values)
    raise Malformed("no expression of + - * / and parentheses, or nested too deeply")


def expression_for(numbers: Sequence[int], target: int) -> str | None:
    """Find an expression that uses each number once and comes to the target; None where there is none.

    Exhaustive, over all splits of the numbers: of the smaller part and the target follows what the larger has to be.
    Whole numbers come first, much faster and nearly always enough; then fractions, for up to five numbers.
    """
    ordered = tuple(sorted(numbers))
    found = _solve(ordered, target, True)
    if found is None and len(ordered) <= 5:
        found = _solve(ordered, Fraction(target), False)
    # without the outermost parentheses, which are always a pair around the whole
    return found[1:-1] if found is not None and found.startswith("(") else found


@lru_cache(maxsize=10_000)
def _solve(numbers: Numbers, target: Number, whole: bool) -> str | None:
    if len(numbers) <= 2:
        return _values(numbers, whole).get(target)
    for part, rest in _splits(numbers):
        for value, text in _values(part, whole).items():
            for needed, form in _needed(target, value, whole):
                found = _solve(rest, needed, whole)
                if found is not None:
                    return form.format(text, found)
    return None


@lru_cache(maxsize=256)  # some 100 kB each for three numbers
def _values(numbers: Numbers, whole: bool) -> dict[Number, str]:
    if len(numbers) == 1:
        return {numbers[0] if whole else Fraction(numbers[0]): str(numbers[0])}
    found: dict[Number, str] = {}
    for part, rest in _splits(numbers):
        for a, left in _values(part, whole).items():
            for b, right in _values(rest, whole).items():
                for value, form in _results(a, b, whole):
                    found.setdefault(value, form.format(left, right))
    return found


def _splits(numbers: Numbers) -> list[tuple[Numbers, Numbers]]:
    """Cut numbers in two, the first part never the larger."""
    places = range(len(numbers))
    found: dict[tuple[Numbers, Numbers], None] = {}
    for size in range(1, len(numbers) // 2 + 1):
        for chosen in combinations(places, size):
            part = tuple(numbers[i] for i in chosen)
            found[part, tuple(numbers[i] for i in places if i not in chosen)] = None
    return list(found)


def _results(a: Number, b: Number, whole: bool) -> list[tuple[Number, str]]:
    found: list[tuple[Number, str]] = [
        (a + b, "({} + {})"), (a - b, "({} - {})"), (b - a, "({1} - {0})"), (a * b, "({} * {})")
    ]  # fmt: skip
    if b and not (whole and a % b):
        found.append((_divided(a, b, whole), "({} / {})"))
    if a and not (whole and b % a):
        found.append((_divided(b, a, whole), "({1} / {0})"))
    return found


def _needed(target: Number, a: Number, whole: bool) -> list[tuple[Number, str]]:
    """What the other value would have to be, for each way to reach the target from `a`."""
    found: list[tuple[Number, str]] = [
        (target - a, "({} + {})"), (a - target, "({} - {})"), (target + a, "({1} - {0})"), (target * a, "({1} / {0})")
    ]  # fmt: skip
    if not a:
        found.pop()  # nothing may be divided by it
    if a and not (whole and target % a):
        found.append((_divided(target, a, whole), "({} * {})"))
    if target and a and not (whole and a % target):
        found.append((_divided(a, target, whole), "({} / {})"))
    return found


def _divided(a: Number, b: Number, whole: bool) -> Number:
    return a // b if whole else Fraction(a) / b


def create(config: Config) -> Countdown:
    return Countdown(config)
