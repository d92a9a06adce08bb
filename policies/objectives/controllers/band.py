"""A band for the entropy of each environment: pushed by a share of the signal inside it, harder below, not above.

    v_e = room * u_e,   room = min(1, max(0, 1 + 10 (1 - H_e / ceiling)))
    u_e goes to min(high, share * m + gain * max(0, log(H* / H_e))), by at most `step` a step

Symbols: v_e the coefficient of environment e, H_e its own reading, H* the target, the lower end of the band, m the
running mean of the step's mean |advantage|, over all environments. The upper end acts at once, since
nothing else may oppose the push.

It is `signal_share` for each environment, with an upper end. One strength for all goes by the mean of their entropies:
it leaves an environment that has collapsed where another holds the mean up, and pushes one that is far more random than
it was, with nothing that opposes the push where no group has a signal, until its answers are noise.

Empty cases: an environment without a reading in this step keeps its coefficient; one that never had any, and all of
them where readings are not known of each (`reading: raw`), have that of `signal_share`.

Source: ours; docs/decisions/0026-a-band-for-each-environment.md has what was seen of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean
from typing import Any

from pydantic import Field, model_validator

from policies.objectives.controllers import signal_share
from policies.objectives.errors import ObjectiveError

SOURCE = "ours"
CEILING = 5 / 3  # of the target: at the default target, the entropy at the start
FADE = 0.1  # of the ceiling: so far above it the push has come to an end


class Config(signal_share.Config):
    ceiling: float | None = Field(None, gt=0)
    """Upper end of the band, in the unit that `target_in` says: above it the push ends; null: 5/3
    of the target, with the default target the entropy at the start."""

    @property
    def moves_each_environment(self) -> bool:
        return True

    @model_validator(mode="after")
    def _band_has_two_ends(self) -> Config:
        if self.ceiling is not None and self.ceiling <= max(self.target, self.target_end or 0.0):
            raise ValueError(f"the ceiling {self.ceiling:g} is not above the target: a band has two ends")
        return self


class Band(signal_share.SignalShare):
    config: Config

    def __init__(self, config: Config, start: float) -> None:
        super().__init__(config, start)
        self._inside: dict[str, float] = {}  # by environment: what its coefficient is inside of the band
        self._room: dict[str, float] = {}  # and how much of that acts

    @property
    def strengths(self) -> Mapping[str, float]:
        return {name: inside * self._room[name] for name, inside in self._inside.items()}

    @property
    def level(self) -> float:
        return fmean(self.strengths.values()) if self._inside else self.value

    @property
    def is_at_bound(self) -> bool:
        return any(strength == self.config.high for strength in self.strengths.values())

    def move_each(self, readings: Mapping[str, float]) -> None:
        if (target := self.target) is None:
            return
        ceiling = self.config.ceiling or CEILING * target
        for name, reading in readings.items():
            before, read = self._inside.get(name, self.value), self.outside_dead_band(reading, target)
            self._inside[name] = self.steer(before, read, target)
            self._room[name] = min(1.0, max(0.0, 1 + (ceiling - reading) / (FADE * ceiling)))

    def state(self) -> dict[str, Any]:
        return {**super().state(), "inside": dict(self._inside), "room": dict(self._room)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        own = dict(state)
        kept = {key: own.pop(key, {}) for key in ("inside", "room")}
        for key, numbers in kept.items():
            if not isinstance(numbers, Mapping) or not all(map(_is_number, numbers.values())):
                raise ObjectiveError(f"the saved `{key}` of Band is {numbers!r}, not a number for each environment")
        if kept["inside"].keys() != kept["room"].keys():
            raise ObjectiveError("the saved `inside` and `room` of Band are not of the same environments")
        super().load_state(own)
        self._inside = {name: self.within_reach(inside) for name, inside in kept["inside"].items()}
        self._room = dict(kept["room"])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


create = Band
