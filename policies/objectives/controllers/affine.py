"""Affine: v = clamp(v0 + gain * (H* - H), low, high), as far from v0 as the reading is from the target.

Symbols: v the coefficient, meant to raise entropy, v0 its start, H the reading, H* the target; gain 1 as published.

A proportional controller without memory: it cannot lag or wind up, and where a constant force is needed it rests away
from the target. In SCOPE-RL v is the temperature of the side batch, 1 in [.8, 1.2], H* .5 nat (`target_in: nats`).

Empty cases: a missing reading leaves v where it is.

Source: SCOPE-RL, the second version of Arbitrary Entropy Policy Optimization, arXiv 2510.08141; descriptions only.
"""

from __future__ import annotations

from pydantic import Field

from policies.objectives.controllers import BoundedOptions, Steering
from policies.objectives.parts import PartInfo

SOURCE = "arXiv 2510.08141"
INFO = PartInfo(missing="no code of its second version was read, only descriptions")


class Config(BoundedOptions):
    gain: float = Field(1.0, gt=0)
    """The coefficient for a reading that is 1 below the target, counted from the start."""
    low: float = 0.8
    """Smallest coefficient."""
    high: float = 1.2
    """Largest coefficient."""


class Affine(Steering[Config]):
    def steer(self, value: float, reading: float, target: float) -> float:
        return self.bounded(self.start + self.config.gain * (target - reading))


create = Affine
