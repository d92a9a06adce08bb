"""What a reward is: a pure function of an attempt, with what its user must know before it is called."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from environments.contracts import Message, Score

SOLUTION_MARK = "####"  # of GSM8K: the result comes behind it
RESULT_ALONE = f'`truth: COLUMN.split("{SOLUTION_MARK}")[-1].strip()`'
NOT_APPLIED = "no reward applied"  # the reason of a reward that has nothing to say about an attempt


@dataclass(frozen=True)
class Attempt:
    """One reply, and what is needed to judge it: plain data, but for `trainer`."""

    completion: str  # all that the policy wrote
    answer: str | None  # what the environment's option `answer` found in it; None where its marks are missing
    truth: Any  # what the row says is right: plain JSON data
    messages: tuple[Message, ...] = ()  # the conversation before the reply
    row: Mapping[str, Any] = field(default_factory=dict)  # all columns, for rewards that `needs_row`
    # what TRL hands to reward functions beside columns, by parameter, where an environment of its kind asks
    trainer: Mapping[str, Any] = field(default_factory=dict)


class Reward(ABC):
    """Judges attempts. `score` is a pure function of the attempt; no global random state is touched."""

    in_process: bool = False  # cannot hang or run foreign code: the trainer may call it
    needs_row: bool = False  # reads `Attempt.row`; otherwise rows do not travel
    seconds: float = 0.0  # the longest that a score takes by the reward's own limits; 0: it sets none

    @abstractmethod
    def score(self, attempt: Attempt) -> Score:
        """Judge an attempt: a missing or unreadable answer is worth 0, a fault of the reward is unscorable.

        So is an attempt about which it has nothing to say, as `NOT_APPLIED`; in a combination the others then decide.
        """

    def canonical(self, answer: str) -> str | None:
        """Write an answer so that answers which are the same to it are the same text, without foreign code.

        None: it can read nothing there. By default the answer as it is.
        """
        return answer

    def check(self, truth: Any) -> None:  # noqa: B027 - a reward may take any truth
        """Refuse a truth that nothing could be compared with by a ValueError that says why; called for every row."""

    def check_row(self, row: Mapping[str, Any]) -> None:  # noqa: B027 - a reward may take any row
        """Refuse a row of whose other columns nothing could be made, in the same way; called where it `needs_row`."""

    def truth_in(self, truth: Any, row: Mapping[str, Any]) -> Any:
        """Give a row's truth as the row itself means it, and as all else is asked of it; called where it `needs_row`.

        It refuses nothing: a row that it cannot read leaves the truth as it is.
        """
        return truth

    def reference(self, truth: Any) -> str | None:
        """Give an answer that is worth 1, as a warm start needs it; None where the reward knows none."""
        return None


def one_or_several(truth: Any) -> list[Any]:
    """Give the accepted answers of a truth that may be a list of them."""
    return list(truth) if isinstance(truth, list | tuple) else [truth]


def is_text_or_number(one: object) -> bool:
    """Say whether a value can be written as an answer; true and false cannot."""
    return isinstance(one, str | int | float) and not isinstance(one, bool)


class AnswerReward(Reward):
    """A reward that reads nothing but the answer; one that is missing or longer than any right one is worth 0."""

    longest: int = 100_000  # characters of an answer that are looked at

    def score(self, attempt: Attempt) -> Score:
        """Judge the answer, if there is one of a sensible length."""
        if attempt.answer is None or len(attempt.answer) > self.longest:
            return Score.of(0.0)
        return self.judge(attempt.answer, attempt)

    @abstractmethod
    def judge(self, answer: str, attempt: Attempt) -> Score:
        """Judge an answer that is there."""
