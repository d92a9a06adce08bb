"""A regular expression that the answer must match: the truth, or one pattern for all rows.

Python's syntax (`re`). A pattern can take for ever on some texts, so answers are judged in processes that are killed at
their time: such an attempt is unscorable, "timed out".
"""

from __future__ import annotations

import re
from typing import Any

from pydantic import field_validator

from environments.contracts import Score
from environments.options import Options
from environments.rewards.contracts import AnswerReward, Attempt

SOURCE = "https://docs.python.org/3/library/re.html"


class Config(Options):
    """Options of matching."""

    pattern: str | None = None
    """Pattern for all rows; null: each row's truth is its pattern."""
    search: bool = False
    """Whether a match anywhere in the answer will do; otherwise the whole answer must match."""
    ignore_case: bool = False
    """Whether capitals and small letters are alike."""

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            _compiled(pattern, 0)
        return pattern


class Regex(AnswerReward):
    """1 for an answer that matches, else 0."""

    def __init__(self, config: Config) -> None:
        self._config, self._flags = config, re.IGNORECASE if config.ignore_case else re.NOFLAG

    def judge(self, answer: str, attempt: Attempt) -> Score:
        pattern = _compiled(self._pattern(attempt.truth), self._flags)
        match = pattern.search if self._config.search else pattern.fullmatch
        return Score.of(float(match(answer) is not None))

    def check(self, truth: Any) -> None:
        _compiled(self._pattern(truth), self._flags)

    def _pattern(self, truth: Any) -> Any:
        return truth if self._config.pattern is None else self._config.pattern


def _compiled(pattern: Any, flags: int) -> re.Pattern[str]:
    if not isinstance(pattern, str):
        raise ValueError(f"expected a regular expression as truth, found {pattern!r}")
    try:
        return re.compile(pattern, flags)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"the regular expression {pattern!r} does not compile: {error}") from error


def create(config: Config) -> Regex:
    return Regex(config)
