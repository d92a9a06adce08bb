"""Adaptive KL: b <- b * (1 + clamp(kl / kl* - 1, -.2, .2) * n / horizon), the classical coefficient of a KL.

Symbols: b the coefficient of the penalty, kl the step's mean KL to the reference (`terms/kl.py`, in the form that is
penalised there), kl* its target, n samples of a step.

It reads the KL and not the entropy: b grows while the policy is further from the reference than the target, by at most
20 % for every `horizon` samples; with 256 samples and a horizon of 10000 it doubles in 136 steps. It has no bounds.

Empty cases: a step without a KL leaves b where it is.

Source: Fine-Tuning Language Models from Human Preferences, arXiv 1909.08593, section 2.2 (its controller in log space;
this form is that of its code and of TRL).
"""

from __future__ import annotations

from pydantic import Field, model_validator

from policies.objectives.errors import ObjectiveError
from policies.objectives.parts import Controller, ControllerOptions, PartInfo

SOURCE = "arXiv 1909.08593"
INFO = PartInfo(knob="kl")
MAX_ERROR = 0.2


class Config(ControllerOptions):
    target: float = Field(0.1, gt=0)
    """The mean KL that is held, nats a token."""
    samples: int = Field(256, ge=1)
    """Samples of a step: groups times group size."""
    horizon: int = Field(10_000, ge=1)
    """Samples in which the coefficient may change by 20 %."""

    @model_validator(mode="after")
    def _stays_above_0(self) -> Config:
        if self.samples * MAX_ERROR >= self.horizon:
            raise ValueError(
                f"{self.samples} samples a step with a horizon of {self.horizon} could take the coefficient to 0 or "
                "below in one step: raise `horizon`"
            )
        return self


class AdaptiveKl(Controller):
    reads = "kl_ref"

    def __init__(self, config: Config, start: float) -> None:
        super().__init__(start)
        self._config = config
        if start <= 0:
            raise ObjectiveError(
                f"the adaptive_kl controller multiplies its coefficient, so it cannot start from {start:g}: "
                "give it a start above 0, such as `kl: 0.1`"
            )

    def move(self, reading: float | None) -> float:
        if reading is None:
            return self.value
        error = max(-MAX_ERROR, min(reading / self._config.target - 1, MAX_ERROR))
        return self.value * (1 + error * self._config.samples / self._config.horizon)

    @property
    def target(self) -> float:
        return self._config.target


create = AdaptiveKl
