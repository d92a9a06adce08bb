"""Switch: v = high while H <= H*, else low; two values and nothing between.

Symbols: v the coefficient, meant to raise entropy, H the reading, H* the target.

It forgets everything from step to step, so it cannot lag, and it never rests: around the target it goes from one value
to the other whenever the reading crosses. In AEPO v is the temperature of the side batch, 1.2 or .8, and H* .5 or .75
nat; there the tempered rows must not be in the reading, which the released code did not mind.

Empty cases: a missing reading leaves v where it is; until the first one it has its start, which may lie between.

Source: Arbitrary Entropy Policy Optimization, arXiv 2510.08141, checked against 597358816/AEPO, `ray_trainer.py`.
"""

from __future__ import annotations

from policies.objectives.controllers import BoundedOptions, Steering

SOURCE = "arXiv 2510.08141"


class Config(BoundedOptions):
    low: float = 0.8
    """The coefficient while the reading is above the target."""
    high: float = 1.2
    """The coefficient while it is at the target or below."""


class Switch(Steering[Config]):
    is_at_bound = False  # neither value is a bound

    def steer(self, value: float, reading: float, target: float) -> float:
        return self.config.high if reading <= target else self.config.low


create = Switch
