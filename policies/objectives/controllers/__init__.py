"""Controllers: one reading a step, most often of the entropy, moves one coefficient. Here: what it is steered to.

    target_in: fraction   reads H / H0, steers to `target`: .5 is half of the entropy at the start
    target_in: nats       reads H, steers to `target` nats: what papers print
    target_in: initial    reads H / H0, steers to `target` times the mean of its first `target_readings` readings;
                          until it has them the coefficient rests
    target_end            from `target` to `target_end` in a straight line over `target_steps` steps that were
                          read, then constant (the best of the schedules that Entrocraft tried, arXiv 2604.26326;
                          read in a description only)

H and H / H0 are corrected for the mix of tasks (`entropy_reading.py`), so each environment is compared with its own
start. That is the run's, unless controllers are rescaled at a boundary: then H0, and the mean of the first readings,
are the stage's. `initial` is for runs whose start is noisy or not measured.

Empty cases: a missing or non-finite reading moves no coefficient, is not one of the first, and is no step of a line.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, Literal, TypeVar

from pydantic import Field, model_validator

from policies.objectives.entropy_reading import ENTROPY, ENTROPY_NATS
from policies.objectives.errors import ObjectiveError
from policies.objectives.parts import Controller, ControllerOptions

_NEW: Mapping[str, float] = {"num_steps": 0, "num_initial": 0, "initial_sum": 0.0}


class TargetOptions(ControllerOptions):
    """Where the reading should be."""

    target: float = Field(1.0, gt=0)
    """What is held, in the unit that `target_in` says: by default a fraction of the entropy at the start."""
    target_in: Literal["fraction", "nats", "initial"] = "fraction"
    """fraction of the entropy at the start, nats, or initial: fraction of the mean of the first readings."""
    target_readings: int = Field(8, ge=1)
    """Of `target_in: initial`: how many first readings make the mean; the coefficient rests meanwhile."""
    target_end: float | None = Field(None, gt=0)
    """Where the target goes in a straight line; null: it stays."""
    target_steps: int | None = Field(None, ge=1)
    """Of `target_end`: over how many steps; null: without one."""
    dead_band: float = Field(0.0, ge=0, lt=1)
    """A reading this close to the target, as a fraction of the target, counts as equal to it."""

    has_target: ClassVar[bool] = True

    @property
    def steers_entropy(self) -> bool:
        return True

    @model_validator(mode="after")
    def _line_has_two_ends(self) -> TargetOptions:
        if (self.target_end is None) != (self.target_steps is None):
            raise ValueError("`target_end` and `target_steps` belong together: give both, or neither")
        return self


class BoundedOptions(TargetOptions):
    """Where the reading should be, and how far the coefficient may go for it."""

    low: float
    """Smallest coefficient."""
    high: float
    """Largest coefficient."""

    @property
    def reach(self) -> tuple[float, float]:
        return self.low, self.high

    @model_validator(mode="after")
    def _bounds_are_ordered(self) -> BoundedOptions:
        if self.low > self.high:
            raise ValueError(f"the lower bound {self.low:g} is above the upper bound {self.high:g}")
        return self


C = TypeVar("C", bound=TargetOptions)


class Steering(Controller, Generic[C]):
    """A controller that compares its reading with a target; a subclass says where the coefficient goes.

    It starts inside the reach of its options, and is at a bound where it has come to an end of it.
    """

    def __init__(self, config: C, start: float) -> None:
        super().__init__(start)
        self.config, self.start = config, start
        self.reads = ENTROPY_NATS if config.target_in == "nats" else ENTROPY
        self.kept |= _NEW
        if config.reach and not config.reach[0] <= start <= config.reach[-1]:
            name = type(self).__module__.rpartition(".")[2]
            low, high = config.reach[0], config.reach[-1]
            raise ObjectiveError(
                f"the {name} controller starts at {start:g}, outside of its bounds [{low:g}, {high:g}]; change the "
                "start or the bounds"
            )

    @property
    def target(self) -> float | None:
        """What the reading is steered to now; None while the first readings are taken."""
        aim, anchor = self.config, 1.0
        if aim.target_in == "initial":
            if self.kept["num_initial"] < aim.target_readings:
                return None
            anchor = self.kept["initial_sum"] / self.kept["num_initial"]
        if aim.target_end is None or aim.target_steps is None:
            return anchor * aim.target
        share = min(self.kept["num_steps"] / aim.target_steps, 1.0)
        return anchor * (aim.target + share * (aim.target_end - aim.target))

    @abstractmethod
    def steer(self, value: float, reading: float, target: float) -> float:
        """Where the value goes by a reading that compares with this target."""

    def bounded(self, value: float) -> float:
        """Hold a value inside the reach."""
        low, high = self.config.reach
        return max(low, min(value, high))

    def within_reach(self, value: float) -> float:
        """A saved value, held inside the reach, which a fork may have changed; by a rounding it may be outside."""
        if not self.config.reach:
            return value
        nearest = max(self.config.reach[0], min(value, self.config.reach[-1]))
        return value if math.isclose(value, nearest, rel_tol=1e-9, abs_tol=1e-12) else nearest

    @property
    def is_at_bound(self) -> bool:
        return self.value in self.config.reach

    def move(self, reading: float | None) -> float:
        if reading is None:
            return self.value
        target = self.target
        if target is None:
            self.kept["num_initial"] += 1
            self.kept["initial_sum"] += reading
            return self.value
        self.kept["num_steps"] += 1
        return self.steer(self.value, self.outside_dead_band(reading, target), target)

    def outside_dead_band(self, reading: float, target: float) -> float:
        """The reading, or the target where it is as near to it as the dead band is wide."""
        return target if abs(reading - target) <= self.config.dead_band * target else reading

    def rescale(self) -> None:
        """Take the first readings anew; the coefficient and a line under way stay."""
        self.kept |= {"num_initial": 0, "initial_sum": 0.0}

    def load_state(self, state: Mapping[str, Any]) -> None:
        # what earlier versions saved knows no lines and no first readings
        super().load_state({**_NEW, **state})
        self.value = self.within_reach(self.value)
