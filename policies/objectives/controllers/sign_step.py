"""Sign step: v <- clamp(v + delta * sign(H* - H), low, high), the same small move whatever the distance.

Symbols: v the coefficient, meant to raise entropy, H the reading, H* the target, delta the step.

    Skywork-OR1   on `entropy_bonus`: delta 1e-4 in [0, .005], target .2 nat, `tie: up`, `gated: true` (TRL: delta .005)
    MAI clip      on `clip_high`, counted from 1: delta .25 in [1.5, 4.0] from 1.5, target .3 nat, `clip_low: .6`

`tie` says what happens at H = H*, and inside a dead band: Skywork moves up, MAI holds. `gated` is Skywork's: the
coefficient acts only where H <= H*, and is 0 elsewhere, while it goes on being stepped. The released code gates with
the entropy of the same step, micro-batch by micro-batch; ours with the reading of the step before, so that all updates
of a step see one value. From one bound to the other takes (high - low) / delta steps, 50 of Skywork's, 10 of MAI's; it
does not rest at the target but goes up and down around it.

Empty cases: a missing reading leaves the coefficient and its gate as they are.

Source: Skywork Open Reasoner 1, arXiv 2505.22312, checked against the released script and TRL; MAI-Thinking-1
technical report (2026), read in two descriptions that agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from policies.objectives.controllers import BoundedOptions, Steering

SOURCE = "arXiv 2505.22312"


class Config(BoundedOptions):
    delta: float = Field(1e-4, gt=0)
    """The coefficient moves by this, once a step."""
    low: float = 0.0
    """Smallest coefficient."""
    high: float = 5e-3
    """Largest coefficient."""
    tie: Literal["up", "hold"] = "up"
    """What a reading does that equals the target."""
    gated: bool = False
    """Whether the coefficient acts only while the last reading was not above the target."""


class SignStep(Steering[Config]):
    """Adds or subtracts a constant; `kept["level"]` is the coefficient behind the gate."""

    def __init__(self, config: Config, start: float) -> None:
        super().__init__(config, start)
        self.kept["level"] = start

    def steer(self, value: float, reading: float, target: float) -> float:
        config, level = self.config, self.kept["level"]
        if reading != target or config.tie == "up":
            up, down = min(level + config.delta, config.high), max(level - config.delta, config.low)
            self.kept["level"] = up if reading <= target else down
        return 0.0 if config.gated and reading > target else self.kept["level"]

    def load_state(self, state: Mapping[str, Any]) -> None:
        super().load_state(state)
        self.kept["level"] = self.within_reach(self.kept["level"])
        if self.config.gated and state["value"] == 0:  # shut, which is no matter of bounds
            self.value = 0.0

    @property
    def is_at_bound(self) -> bool:
        return self.kept["level"] in self.config.reach


create = SignStep
