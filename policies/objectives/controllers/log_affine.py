"""Affine in the logarithm: v = clamp(v0 + gain * log(H* / H), -high, high), at most `step` away from the v before.

Symbols: v the coefficient, meant to raise entropy, v0 its start, H the reading, H* the target.

At the target it pushes with v0; every factor e that the entropy falls below adds `gain`; at H* * exp(v0 / gain) it
rests at 0, and above it pulls down. With the defaults and v0 = .05 that is at 1.38 of the entropy at the start, v is
.019 at the start itself, and the bound of .1 is reached at .26 of it. Without memory but for the last value it neither
winds up nor hunts; where entropy runs away the force changes its sign, from bound to bound in 2 * high / step = 20
steps. It is not made to sit on its target: where learning lowers the entropy it holds it harder the lower it comes.

Empty cases: a missing reading, and a reading of 0 (which has no logarithm), leave v where it is.

Source: ours; how the defaults were chosen, and what they do not do, is in docs/results/repo_adaptive.md.
"""

from __future__ import annotations

import math

from pydantic import Field

from policies.objectives.controllers import Steering, TargetOptions

SOURCE = "ours"


class Config(TargetOptions):
    target: float = Field(0.6, gt=0)
    """Where it pushes with its start: a fraction of the entropy at the start, in the unit that `target_in` says."""
    gain: float = Field(0.06, gt=0)
    """What is added for every factor e below the target."""
    high: float = Field(0.1, gt=0)
    """Largest magnitude of the coefficient."""
    step: float = Field(0.01, gt=0)
    """Largest change in one step."""

    @property
    def reach(self) -> tuple[float, float]:
        return -self.high, self.high


class LogAffine(Steering[Config]):
    def steer(self, value: float, reading: float, target: float) -> float:
        if reading <= 0:
            return value
        wanted = self.bounded(self.start + self.config.gain * math.log(target / reading))
        return value + max(-self.config.step, min(wanted - value, self.config.step))


create = LogAffine
