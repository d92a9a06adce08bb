"""Affine: v = clamp(v0 + gain * (H* - H), low, high), as far from v0 as the reading is from the target.

Symbols: v the coefficient, meant to raise entropy, v0 its start, H the reading, H* the target; gain 1 as published.

A proportional controller without memory: it cannot lag or wind up, and where a constant force is needed it rests away
from the target. In SCOPE-RL v is the temperature of the side batch, 1 in [.8, 1.2], H* .5 nat (`target_in: nats`).

Empty cases: a missing reading leaves v where it is.

Source: SCOPE-RL, the second version of Arbitrary Entropy Policy Optimization, arXiv 2510.08141; descriptions only.
"""

from __future__ import annotations

from pydantic import Field

from policies.objectives.controllers import BoundedOptions, Steering, expect_inside
from policies.objectives.parts import Controller, PartInfo

SOURCE = "arXiv 2510.08141"
INFO = PartInfo(missing="no code of its second version was read, only descriptions")


class Config(BoundedOptions):
    """The target, how strongly it answers, and how far it may go."""

    gain: float = Field(1.0, gt=0)
    """The coefficient for a reading that is 1 below the target, counted from the start."""
    low: float = 0.8
    """Smallest coefficient."""
    high: float = 1.2
    """Largest coefficient."""


def create(config: Config, start: float) -> Controller:
    expect_inside(start, config.low, config.high, "affine")
    return Affine(config, start)


class Affine(Steering):
    """Answers in proportion to the distance from the target."""

    def __init__(self, config: Config, start: float) -> None:
        super().__init__(config, start)
        self._config, self._middle = config, start

    def steer(self, value: float, reading: float, target: float) -> float:
        """The start, plus the distance from the target."""
        config = self._config
        return max(config.low, min(self._middle + config.gain * (target - reading), config.high))

    @property
    def is_at_bound(self) -> bool:
        """Whether it pushes as hard as it may, in either direction."""
        return self.value in (self._config.low, self._config.high)
