"""Equality of numbers, exact or within a tolerance. Nothing is evaluated.

A number is: a sign (also U+2212), digits, plain or with commas at every third (`1,234.5`), a decimal part, an
exponent (`1e3`); or a fraction of two such (`3/4`); or either with `%` behind it, which divides by 100 (`50%` is
0.5); a `$`, `€` or `£` before or behind it is passed over. A blank may stand between it and these signs. Infinities,
NaN, other units and words are not numbers: worth 0. Numbers are compared as fractions, so `0.1` is 1/10 (of a
tolerance too) and 2**53 + 1 is not 2**53. A number is at most 200 characters long.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any, Literal

from pydantic import Field

from environments.contracts import Score
from environments.options import Options
from environments.rewards.contracts import (
    RESULT_ALONE,
    SOLUTION_MARK,
    AnswerReward,
    Attempt,
    is_text_or_number,
    one_or_several,
)

SOURCE = "numeric match, as in GSM8K's evaluation (arXiv 2110.14168), with tolerances"

LONGEST = 200  # characters of a number
MOST_EXPONENT = 400  # beyond a float's
LOOKED_THROUGH = 10_000  # characters at the end of an answer, for `where: last`

# Possessive, so that no text makes it try twice.
_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3}){1,60}+|[0-9]++)"
_DECIMAL = rf"(?:{_DIGITS}(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][+-]?+[0-9]{{1,4}}+)?+"
_BLANK = "[ \u00a0\u202f]?"  # two that break no line are usual there
_BEHIND = rf"(?:{_BLANK}(%))?+(?:{_BLANK}[$€£](?!{_BLANK}[0-9]))?+"  # a sign before a number is that number's
_NUMBER = rf"([+-]?+)(?:[$€£]{_BLANK})?+({_DECIMAL})(?:/([+-]?+{_DECIMAL}))?+{_BEHIND}"
_WHOLE = re.compile(_NUMBER)
_WITHIN = re.compile(rf"(?<![0-9.a-zA-Z_]){_NUMBER}(?![0-9a-zA-Z_])")


class Config(Options):
    """Options of numeric equality."""

    relative_tolerance: float = Field(default=0.0, ge=0, le=1)
    """Most difference as a share of the truth; 0: exact."""
    absolute_tolerance: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Most difference. Right is what is within either tolerance."""
    where: Literal["whole", "last"] = "whole"
    """`whole`: the answer is a number and nothing else; `last`: the last number in it counts."""


class Numeric(AnswerReward):
    """1 for a number near enough to the truth or one of several, else 0."""

    in_process = True

    def __init__(self, config: Config) -> None:
        self._last = config.where == "last"
        self._relative = Fraction(str(config.relative_tolerance))
        self._absolute = Fraction(str(config.absolute_tolerance))

    def judge(self, answer: str, attempt: Attempt) -> Score:
        said = _last_number(answer) if self._last else number(answer)
        if said is None:
            return Score.of(0.0)
        near = ((abs(said - one), self._relative * abs(one)) for one in _numbers(attempt.truth))
        return Score.of(float(any(apart <= max(self._absolute, allowed) for apart, allowed in near)))

    def canonical(self, answer: str) -> str | None:
        said = _last_number(answer) if self._last else number(answer)
        return None if said is None else str(said)

    def check(self, truth: Any) -> None:
        if not _numbers(truth):
            raise ValueError("expected a number or a list of numbers as truth, found an empty list")

    def reference(self, truth: Any) -> str:
        return str(one_or_several(truth)[0]).strip()


def number(text: str) -> Fraction | None:
    """Read a text that is a number; None where it is none."""
    text = text.strip()
    if len(text) > LONGEST:
        return None
    found = _WHOLE.fullmatch(text.replace("\u2212", "-"))
    return None if found is None else _value(found)


def _last_number(text: str) -> Fraction | None:
    found = list(_WITHIN.finditer(text[-LOOKED_THROUGH:].replace("\u2212", "-")))
    return _value(found[-1]) if found and len(found[-1][0]) <= LONGEST else None


def _value(found: re.Match[str]) -> Fraction | None:
    sign, above, below, percent = found.groups()
    value, divisor = _decimal(above), _decimal(below or "1")
    if value is None or not divisor:
        return None
    return (-value if sign == "-" else value) / divisor / (100 if percent else 1)


def _decimal(text: str) -> Fraction | None:
    exponent = text.lower().partition("e")[2]
    return None if abs(int(exponent or 0)) > MOST_EXPONENT else Fraction(text.replace(",", ""))


def _numbers(truth: Any) -> list[Fraction]:
    found = []
    for one in one_or_several(truth):
        value = number(str(one)) if is_text_or_number(one) else None
        if value is None:
            remedy = f"take only what is behind {SOLUTION_MARK}, {RESULT_ALONE}: " if SOLUTION_MARK in str(one) else ""
            if number(str(one).replace(",", ".")) is not None:
                remedy = "a comma before decimals becomes a point by `truth: COLUMN | replace(',', '.')`: "
            raise ValueError(f"{remedy}expected a number or a list of numbers as truth, found {one!r}")
        found.append(value)
    return found


def create(config: Config) -> Numeric:
    return Numeric(config)
