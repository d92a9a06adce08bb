"""A share of the signal, and more where entropy is low: v = min(high, share * m + gain * max(0, log(H* / H))).

Symbols: v the coefficient, meant to raise entropy, m the running mean of the step's mean |advantage| (`advantage_abs`;
a step weighs 1 / `memory`), H the reading, H* the target. v moves by at most `step` a step.

An advantage is in the unit of the reward, and so is the strength of a push against it: as a share of m it has no unit.
Where only few samples earn anything (64 answers to guess among: m = .03 at first) the same number would drown what they
teach; where samples differ most it is largest; where everything is solved, or nothing is, m is 0 and so is the push.
That alone would let a policy that has collapsed on one task stay there, since the next task gives it no signal either:
below H* the second summand pushes whatever the signal is, more the lower the entropy.

Empty cases: until an advantage was seen the first summand is 0; a missing reading, or one of 0, leaves v where it is.

Source: ours; how the defaults were chosen, and what they do not do, is in docs/results/defaults.md.
"""

from __future__ import annotations

import math

from pydantic import Field

from policies.objectives.controllers import Steering, TargetOptions

SOURCE = "ours"


class Config(TargetOptions):
    target: float = Field(0.6, gt=0)
    """Below it entropy is pushed whatever the signal: a fraction of the start's, in the unit that `target_in` says."""
    share: float = Field(0.25, ge=0)
    """Strength as a share of the mean absolute advantage."""
    gain: float = Field(0.06, ge=0)
    """What is added for every factor e below the target."""
    high: float = Field(0.3, gt=0)
    """Largest coefficient."""
    step: float = Field(0.01, gt=0)
    """Largest change in one step."""
    memory: float = Field(20.0, ge=1)
    """Steps over which the absolute advantage is averaged."""

    @property
    def reach(self) -> tuple[float, float]:
        return 0.0, self.high


class SignalShare(Steering[Config]):
    also_reads = "advantage_abs"

    def __init__(self, config: Config, start: float) -> None:
        super().__init__(config, start)
        self.kept |= {"signal": 0.0, "num_signals": 0}

    def hear(self, value: float) -> None:
        self.kept["num_signals"] += 1
        weight = max(1 / self.kept["num_signals"], 1 / self.config.memory)
        self.kept["signal"] += weight * (value - self.kept["signal"])

    def steer(self, value: float, reading: float, target: float) -> float:
        if reading <= 0:
            return value
        low_entropy = max(0.0, math.log(target / reading))
        wanted = self.bounded(self.config.share * self.kept["signal"] + self.config.gain * low_entropy)
        return value + max(-self.config.step, min(wanted - value, self.config.step))

    @property
    def is_at_bound(self) -> bool:
        return self.value == self.config.high


create = SignalShare
