"""Geometric controller: v <- clamp(v * f^sign(H* - H), low, high).

Symbols: v the coefficient, H the reading, H* the target, f the factor. It raises a coefficient that is meant to
raise entropy while the reading is below the target, and lowers it while it is above; it never changes the sign.

From one bound to the other takes log(high / low) / log(f) steps: 38 with the defaults. It does not rest at the
target but oscillates around it.

Empty cases: a missing reading, and one equal to the target, leave v where it is.

Source: ours, for ADAPO of arXiv 2603.11682, whose step rule is not published (objectives.md 8.4); as the
controller of REPO and the entropy bonus measured with factor 1.2 in [1e-4, .1].
"""

from __future__ import annotations

from pydantic import Field

from policies.objectives.controllers import BoundedOptions, Steering, expect_inside
from policies.objectives.parts import Controller

SOURCE = "ours, after arXiv 2603.11682"


class Config(BoundedOptions):
    """The target, how fast, and how far."""

    factor: float = Field(1.2, gt=1)
    """The coefficient grows or shrinks by this, once a step."""
    low: float = Field(1e-4, gt=0)
    """Smallest coefficient."""
    high: float = Field(0.1, gt=0)
    """Largest coefficient."""


def create(config: Config, start: float) -> Controller:
    expect_inside(start, config.low, config.high, "geometric")
    return Geometric(config, start)


class Geometric(Steering):
    """Multiplies or divides the coefficient by a factor, inside positive bounds."""

    def __init__(self, config: Config, start: float) -> None:
        super().__init__(config, start)
        self._config = config

    def steer(self, value: float, reading: float, target: float) -> float:
        """One step up when the reading is below the target, one down when it is above."""
        if reading < target:
            return min(value * self._config.factor, self._config.high)
        if reading > target:
            return max(value / self._config.factor, self._config.low)
        return value

    @property
    def is_at_bound(self) -> bool:
        """Whether it pushes as hard, or as little, as it may."""
        return self.value in (self._config.low, self._config.high)
