"""Mastery: the stage's environment is solved, with confidence.

Stops when the lower end of Wilson's 95 % interval of the newest window's score reaches the target (curricula reference,
section 7.3). The interval counts groups, not samples: samples of one task are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from orchestrator.stop_rules.contracts import StopRule, StopRuleConfig, WindowStats

SOURCE = "curricula reference, section 7.3"
Z = 1.959964  # two-sided 95 %


class Config(StopRuleConfig):
    type: Literal["mastery"] = "mastery"
    target: float = Field(0.9, gt=0, lt=1, description="Score that the stage has to reach.")


@dataclass(frozen=True)
class Mastery(StopRule):
    target: float

    def verdict(self, windows: Sequence[WindowStats]) -> str | None:
        newest = windows[-1]
        low, _ = wilson(newest.score, newest.num_groups)
        if low < self.target:
            return None
        return f"mastery: score {newest.score:.2f}, at least {low:.2f} with 95 % confidence, target {self.target:g}"


def wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share observed n times; n at least 1."""
    centre = share + Z * Z / (2 * n)
    half = Z * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    return (centre - half) / (1 + Z * Z / n), (centre + half) / (1 + Z * Z / n)


def create(config: Config) -> Mastery:
    return Mastery(config.target)
