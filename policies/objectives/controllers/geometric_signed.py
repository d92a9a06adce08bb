"""Signed geometric controller: doubles and halves a coefficient of either sign, jumping over zero.

Symbols: z the coefficient, H the reading, H* the target, f = 2 the factor.

    H > H*   z >= 0:  z / f, and below `low` it becomes -low
             z < 0:   max(-high, f * z)
    H < H*   the same mirrored
    H = H*   unchanged

From one bound to the other takes 18 steps with the defaults, so it lags a fast swing and oscillates around the target.
The bound of .05 is made for log-probs of -3 and below: with few actions or a very confident policy z sits at the bound
and entropy falls all the same. The share of steps at the bound is logged for that.

Empty cases: a missing reading leaves z where it is; from z = 0 the first reading gives +-low.

Source: Entropy-Preserving Reinforcement Learning, arXiv 2603.11682; checked against the SkyRL implementation
(NovaSky-AI/SkyRL pull request 1896).
"""

from __future__ import annotations

from pydantic import Field

from policies.objectives.controllers import BoundedOptions, Steering

SOURCE = "arXiv 2603.11682"


class Config(BoundedOptions):
    factor: float = Field(2.0, gt=1)
    """The coefficient grows or shrinks by this, once a step."""
    low: float = Field(1e-4, gt=0)
    """Smallest magnitude: below it the sign changes."""
    high: float = Field(0.05, gt=0)
    """Largest magnitude."""

    @property
    def reach(self) -> tuple[float, float]:
        return -self.high, self.high


class GeometricSigned(Steering[Config]):
    def steer(self, value: float, reading: float, target: float) -> float:
        if reading > target:
            return self._lower(value)
        if reading < target:
            return -self._lower(-value)
        return value

    def _lower(self, value: float) -> float:
        low, high, factor = self.config.low, self.config.high, self.config.factor
        if value >= 0:
            return value / factor if value / factor >= low else -low
        return max(-high, min(-low, factor * value))


create = GeometricSigned
