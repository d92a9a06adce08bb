"""Dead signal: the stage's groups have nothing left to compare; all solved, or all out of reach.

Stops when the mean raw |advantage| of the stage's own groups stayed below a threshold for three evals (curricula
reference, section 7.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from orchestrator.stop_rules.contracts import StopRule, StopRuleConfig, WindowStats

SOURCE = "curricula reference, section 7.3"
NUM_EVALS = 3


class Config(StopRuleConfig):
    """Options of dead signal."""

    type: Literal["dead_signal"] = "dead_signal"
    below: float = Field(0.02, gt=0, description="Mean raw |advantage| that counts as nothing.")


class DeadSignal(StopRule):
    """See the module."""

    def __init__(self, below: float) -> None:
        self.below = below

    def verdict(self, evals: Sequence[WindowStats]) -> str | None:
        """Look at the last three signals; one that could not be observed is no sign of death."""
        signals = [one.signal for one in evals[-NUM_EVALS:]]
        if len(signals) < NUM_EVALS or any(signal is None or signal >= self.below for signal in signals):
            return None
        return (
            f"dead signal: mean |advantage| below {self.below:g} for {NUM_EVALS * 10} steps, score "
            f"{evals[-1].score:.2f}"
        )


def create(config: Config) -> DeadSignal:
    return DeadSignal(config.below)
