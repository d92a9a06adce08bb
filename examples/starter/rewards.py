"""A reward in one function: what a reply is worth. The spec names it as `./rewards.py:nearly`."""

from __future__ import annotations

from environments.rewards import Attempt


def nearly(attempt: Attempt, partial: float = 0.5) -> float:
    """Give 1 for the right answer, less for one that begins right.

    `attempt.answer` is what the policy wrote, `attempt.truth` the row's column `answer`; `partial` is set in the spec.
    """
    answer, truth = (attempt.answer or "").strip(), str(attempt.truth)
    if answer == truth:
        return 1.0
    alike = 0
    while answer[alike : alike + 1] == truth[alike : alike + 1] != "":
        alike += 1
    return partial * alike / len(truth)
