"""Short ways to ask rewards."""

from typing import Any

from environments.contracts import Score
from environments.rewards import Attempt, make_reward


def judge(section: Any, answer: str | None, truth: Any = None, **row: Any) -> Score:
    return make_reward(section).score(Attempt(answer or "", answer, truth, row=row))


def worth(section: Any, answer: str | None, truth: Any = None, **row: Any) -> float | None:
    return judge(section, answer, truth, **row).value
