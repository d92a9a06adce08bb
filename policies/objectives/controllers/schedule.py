"""Schedule: the coefficient as a function of the step, whatever is read.

    linear   v = start + x * (end - start)                     x = min(k / steps, 1)
    cosine   v = end + (start - end) * (1 + cos(pi * x)) / 2   the same ends, slow at both
    epo      v = start * (1 - .2 * (1 - exp(-2y)))             first half, y = 2x from 0 to 1
             v = start * .8 * exp(-3y)                         second half, y = 2x - 1

Symbols: v the coefficient, start its value in the first step, k the steps done since, x their share. `epo` is beta of
Entropy-regularized Policy Optimization: a little down in the first half, a jump of 3 % in the middle, then to nearly
nothing, .0398 of the start. Behind the last step v stays where it is. Where the reading matters, take a controller that
reads, with a target that moves (`target_end`).

Empty cases: nothing is read, so nothing can be missing; a step without an update counts too.

Source: the form `epo`: arXiv 2509.22576, checked against WujiangXu/EPO `verl/workers/actor/dp_actor.py`; the others are
the usual ones.
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, model_validator

from policies.objectives.parts import Controller, ControllerOptions

SOURCE = "arXiv 2509.22576"


class Config(ControllerOptions):
    form: Literal["linear", "cosine", "epo"] = "linear"
    """How the coefficient goes from its start to its end."""
    steps: int = Field(150, ge=1)
    """Steps until it is there."""
    end: float | None = None
    """Where linear and cosine go; null: 0. epo has an end of its own."""

    @property
    def reach(self) -> tuple[float, ...]:
        return () if self.form == "epo" else (self.end or 0.0,)  # epo stays between its start and 0

    @model_validator(mode="after")
    def _epo_has_its_end(self) -> Config:
        if self.form == "epo" and self.end is not None:
            raise ValueError("`form: epo` ends at .0398 of its start: leave `end` out, or take linear or cosine")
        return self


class Schedule(Controller):
    reads = None

    def __init__(self, config: Config, start: float) -> None:
        super().__init__(start)
        self._config, self._start = config, start
        self.kept["num_steps"] = 0

    def move(self, reading: float | None) -> float:
        self.kept["num_steps"] += 1
        share = min(self.kept["num_steps"] / self._config.steps, 1.0)
        if self._config.form == "epo":
            return self._start * epo(share)
        end = self._config.end or 0.0
        weight = share if self._config.form == "linear" else (1 - math.cos(math.pi * share)) / 2
        return self._start + weight * (end - self._start)


create = Schedule


def epo(share: float) -> float:
    """EPO's beta after this share of the steps, from 0 to 1."""
    if share <= 0.5:
        return 1 - 0.2 * (1 - math.exp(-2 * (2 * share)))
    return 0.8 * math.exp(-3 * (2 * share - 1))
