"""The interface of a stop rule: why a stage should end, by its windows so far (curricula reference, 7.3).

A window is ten steps of the stage, measured on the stage's own groups; nothing is played for it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.bandits.contracts import ChooserConfig

STEPS_PER_EVAL = 10


@dataclass(frozen=True)
class WindowStats:
    """Ten steps of a stage."""

    score: float  # equal-weight mean over categories of the share that was correct, in [0, 1]
    num_groups: int  # behind the score, in these ten steps
    signal: float | None  # mean raw |advantage| of those groups; None: nothing could be compared


class StopRuleConfig(ChooserConfig):
    """Options of a stop rule."""


class StopRule(ABC):
    """Decides on the windows of a stage."""

    @abstractmethod
    def verdict(self, windows: Sequence[WindowStats]) -> str | None:
        """The reason to end the stage, given its windows, oldest first; None: go on."""
