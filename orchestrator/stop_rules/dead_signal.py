"""Dead signal: the stage's groups have nothing left to compare; all solved, or all out of reach.

Stops when the mean raw |advantage| of the stage's own groups stayed below a threshold for three windows of ten
steps (curricula reference, section 7.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from orchestrator.stop_rules.contracts import StopRule, StopRuleConfig, WindowStats

SOURCE = "curricula reference, section 7.3"
NUM_WINDOWS = 3


class Config(StopRuleConfig):
    type: Literal["dead_signal"] = "dead_signal"
    below: float = Field(0.02, gt=0, description="Mean raw |advantage| that counts as nothing.")


@dataclass(frozen=True)
class DeadSignal(StopRule):
    below: float

    def verdict(self, windows: Sequence[WindowStats]) -> str | None:
        """A signal that could not be observed does not count as a dead one."""
        signals = [one.signal for one in windows[-NUM_WINDOWS:]]
        if len(signals) < NUM_WINDOWS or any(signal is None or signal >= self.below for signal in signals):
            return None
        return (
            f"dead signal: mean |advantage| below {self.below:g} for {NUM_WINDOWS * 10} steps, score "
            f"{windows[-1].score:.2f}"
        )


def create(config: Config) -> DeadSignal:
    return DeadSignal(config.below)
