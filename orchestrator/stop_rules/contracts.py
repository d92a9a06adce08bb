"""What a stop rule is: it reads a stage's evals and says why to stop, or nothing (curricula reference, 7.3).

An eval is ten steps of the stage, seen through the stage's own groups; nothing is played for it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

STEPS_PER_EVAL = 10


@dataclass(frozen=True)
class WindowStats:
    """Ten steps of a stage."""

    score: float  # equal-weight mean over categories of the share that was correct, in [0, 1]
    num_groups: int  # behind the score, in these ten steps
    signal: float | None  # mean raw |advantage| of those groups; None: nothing could be compared


class StopRuleConfig(BaseModel):
    """Options of a stop rule; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class StopRule(ABC):
    """Reads the evals of a stage, oldest first."""

    @abstractmethod
    def verdict(self, evals: Sequence[WindowStats]) -> str | None:
        """Say in words why the stage should end, or None."""
