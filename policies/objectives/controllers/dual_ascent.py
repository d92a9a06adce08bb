"""Dual ascent: mu <- clamp(mu + rate * (target - reading), low, high), the multiplier of a constraint.

Symbols: mu the coefficient. target - reading is how far "the reading is at least the target" is violated: mu grows
while it is, by as much, and shrinks while it is kept. A negative rate is for "at most".

What is constrained is entropy unless `metric` names another number of the step, as the ledger writes it (`kl_ref`,
`clip_frac`, `grad_norm`); the target then has its unit. As the sum of all errors it holds the target without a distance
left over, and swings around it when the rate is high. With `low: 0` mu is a multiplier of an inequality; without that
bound, of an equality, the best form in the study on proxy points of rewards (`estimators/constrained.py`).

Empty cases: a missing reading leaves mu where it is; a metric that never comes leaves it there for ever.

Source: Confronting Reward Model Overoptimization with Constrained RLHF, arXiv 2310.04373 (descriptions only); ARES,
arXiv 2510.08457 (multiplier in [0, 10], rate .01; checked against shawn0728/ARES).
"""

from __future__ import annotations

from pydantic import model_validator

from policies.objectives.controllers import BoundedOptions, Steering
from policies.objectives.entropy_reading import ENTROPY

SOURCE = "arXiv 2310.04373"


class Config(BoundedOptions):
    metric: str = ENTROPY
    """The number of the step that is constrained, as the ledger names it; by default the entropy."""
    rate: float = 0.01
    """The multiplier moves by this times the violation, once a step; negative: for "at most the target"."""
    low: float = 0.0
    """Smallest multiplier."""
    high: float = 10.0
    """Largest multiplier."""

    @property
    def steers_entropy(self) -> bool:
        return self.metric == ENTROPY

    @property
    def falls_below_target(self) -> bool:
        return self.rate < 0

    @model_validator(mode="after")
    def _nats_are_of_entropy(self) -> Config:
        if self.metric != ENTROPY and self.target_in == "nats":
            raise ValueError(f"`target_in: nats` is about entropy, and `metric` is {self.metric}: leave it out")
        return self


class DualAscent(Steering[Config]):
    def __init__(self, config: Config, start: float) -> None:
        super().__init__(config, start)
        if config.metric != ENTROPY:
            self.reads = config.metric

    def steer(self, value: float, reading: float, target: float) -> float:
        return self.bounded(value + self.config.rate * (target - reading))

    @property
    def is_at_bound(self) -> bool:
        # at 0 an inequality is kept without any push
        return self.value == self.config.high or self.value == self.config.low != 0


create = DualAscent
