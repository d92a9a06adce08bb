"""PI: v = clamp(ki * I + kp * e, -bound, bound) with e = H - H*, then I <- I + e.

Symbols: v the coefficient, H the reading, H* the target, e the error, I the sum of the errors of all steps before.

The sign is EntroPIC's, whose coefficient lowers entropy: above the target v is positive. For a coefficient that raises
entropy (REPO's strength, a bonus) give negative gains. As the output is worked out before the error is added, the
first reading answers with kp * e alone. Unlike controllers that step it rests at the target, at v = ki * I.

Wind-up: the released code adds errors up without bound, once a micro-batch and on every rank. Ours adds once a step,
keeps |ki * I| <= bound, and adds nothing while the output is at its bound and the error would push it further. The
published gains are for errors in nats (`target_in: nats`, H* .1); in fractions an error is larger by 1 / H0.

Empty cases: a missing reading leaves v and I as they are; with ki = 0 nothing is added up.

Source: EntroPIC, arXiv 2511.15248, checked against yk7333/EntroPIC; the guards against wind-up are ours.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from policies.objectives.controllers import Steering, TargetOptions

SOURCE = "arXiv 2511.15248"


class Config(TargetOptions):
    kp: float = 1.0
    """Answer to the error of this step; negative for a coefficient that raises entropy."""
    ki: float = 0.01
    """Answer to the sum of the errors before it; of the same sign."""
    bound: float = Field(1.0, gt=0)
    """Largest magnitude of the coefficient."""

    @property
    def reach(self) -> tuple[float, float]:
        return -self.bound, self.bound

    @property
    def falls_below_target(self) -> bool:
        return self.kp > 0 or self.ki > 0

    @model_validator(mode="after")
    def _gains_agree(self) -> Config:
        if self.kp * self.ki < 0:
            raise ValueError(f"kp {self.kp:g} and ki {self.ki:g} work against each other: give them one sign")
        return self


class Pi(Steering[Config]):
    """Answers to the error and to the sum of the errors before it, `kept["integral"]`."""

    def __init__(self, config: Config, start: float) -> None:
        super().__init__(config, start)
        self.kept["integral"] = 0.0

    def steer(self, value: float, reading: float, target: float) -> float:
        config, error, integral = self.config, reading - target, self.kept["integral"]
        output = self.bounded(config.ki * integral + config.kp * error)
        is_saturated = abs(output) == config.bound and output * config.ki * error > 0
        if config.ki != 0 and not is_saturated:
            furthest = config.bound / abs(config.ki)
            self.kept["integral"] = max(-furthest, min(integral + error, furthest))
        return output


create = Pi
