"""Geometric controller: v <- clamp(v * f^sign(H* - H), low, high).

Symbols: v the coefficient, meant to raise entropy, H the reading, H* the target, f the factor. It never changes the
sign. From one bound to the other takes log(high / low) / log(f) steps, 38 with the defaults; it does not rest at the
target but oscillates around it.

Empty cases: a missing reading, and one equal to the target, leave v where it is.

Source: ours, for ADAPO of arXiv 2603.11682, whose step rule is not published (objectives.md 8.4); as the
controller of REPO and the entropy bonus measured with factor 1.2 in [1e-4, .1].
"""

from __future__ import annotations

from pydantic import Field

from policies.objectives.controllers import BoundedOptions, Steering

SOURCE = "ours, after arXiv 2603.11682"


class Config(BoundedOptions):
    factor: float = Field(1.2, gt=1)
    """The coefficient grows or shrinks by this, once a step."""
    low: float = Field(1e-4, gt=0)
    """Smallest coefficient."""
    high: float = Field(0.1, gt=0)
    """Largest coefficient."""


class Geometric(Steering[Config]):
    def steer(self, value: float, reading: float, target: float) -> float:
        if reading < target:
            return min(value * self.config.factor, self.config.high)
        if reading > target:
            return max(value / self.config.factor, self.config.low)
        return value


create = Geometric
