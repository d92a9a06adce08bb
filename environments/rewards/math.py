"""Mathematical equality through math-verify: numbers, expressions, sets, matrices, equations; in LaTeX or plain.

A text that marks its mathematics (`$...$`, `\\(...\\)`, `\\[...\\]`, `\\boxed{...}`) is searched by math-verify's
rules; any other is taken for one expression. The comparison is math-verify's own (0.9): numbers to six decimals,
expressions by simplification, `x = 5` equals `5`. A truth that it cannot read makes its attempts unscorable.

Its time limits, which use alarms, are off: simplification can take for ever, and answers are judged in processes
that are killed at their time.
"""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from typing import Any

from environments.contracts import Score, import_extra
from environments.options import Options
from environments.rewards.contracts import AnswerReward, Attempt, is_text_or_number, one_or_several

SOURCE = "https://github.com/huggingface/Math-Verify"

MARKED = re.compile(r"(?<!\\)\$|\\\(|\\\[|\\boxed\b|\\fbox\b")


class Config(Options):
    """Options of mathematical equality."""

    strict: bool = True
    """Whether names of variables count, and sets differ from tuples."""


class Math(AnswerReward):
    """1 for an expression equal to the truth or one of several, else 0."""

    longest = 20_000

    def __init__(self, config: Config) -> None:
        _library()
        self._strict = config.strict
        self._truth = lru_cache(maxsize=4096)(_parsed)  # read once, not for every sample of a group

    def judge(self, answer: str, attempt: Attempt) -> Score:
        verify = _library().verify
        said = _parsed(answer)
        for text in _texts(attempt.truth):
            truth = self._truth(text)
            if not truth:
                return Score.unscorable(f"math-verify cannot read the truth {text[:50]}")
            if said and verify(truth, said, strict=self._strict, timeout_seconds=None):
                return Score.of(1.0)
        return Score.of(0.0)

    def check(self, truth: Any) -> None:
        """Refuse what is no text or number; whether it can be read is seen with the first answer."""
        if not _texts(truth):
            raise ValueError("expected an expression or a list of them as truth, found an empty list")

    def reference(self, truth: Any) -> str:
        return _texts(truth)[0]


def _texts(truth: Any) -> list[str]:
    for one in (found := one_or_several(truth)):
        if not is_text_or_number(one) or not str(one).strip():
            raise ValueError(f"expected an expression, a number or a list of those as truth, found {one!r}")
    return [str(one).strip() for one in found]


def _parsed(text: str) -> list[Any]:
    marked = text if MARKED.search(text) else f"${text}$"
    found: list[Any] = _library().parse(marked, parsing_timeout=None)
    return found


def _library() -> Any:
    needs, install = "the reward math needs the package math-verify", "'evergreen-rl[rewards]'"
    math_verify = import_extra("math_verify", needs, install)
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its time limits are off
    return math_verify


def create(config: Config) -> Math:
    return Math(config)
