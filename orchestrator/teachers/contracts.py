"""What a teacher is: the choice of a point in a box of a generator's parameters, every one scaled to [0, 1].

Numpy, pydantic and scikit-learn are all this package imports, beside the contracts of bandits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from orchestrator.bandits.contracts import ChooserConfig, Floats


class TeacherConfig(ChooserConfig):
    """What every teacher takes."""


class Teacher(ABC):
    """Chooses points of the unit box of d dimensions, and learns how the policy did there.

    Args:
        num_dims: d, at least 1.
        rng: the only source of chance.

    Heavy fits run beside the step in a thread, and are adopted at a fixed later call, so that chance and thread timing
    never decide what is chosen: a resumed run chooses the same points.
    """

    def __init__(self, num_dims: int, rng: np.random.Generator) -> None:
        self.num_dims, self.rng = num_dims, rng

    @abstractmethod
    def choose(self, n: int) -> Floats:
        """Choose n points [n, d] in [0, 1]."""

    @abstractmethod
    def learn(self, points: Floats, scores: Floats) -> None:
        """Take in the mean scores [m] in [0, 1] of groups played at points [m, d], oldest first."""

    def state(self) -> dict[str, Any]:
        """Everything that a later choice depends on, as JSON."""
        return {"rng": self.rng.bit_generator.state}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state as if nothing had happened."""
        self.rng.bit_generator.state = state["rng"]

    def close(self) -> None:  # noqa: B027 - most have no thread
        """End what runs beside the steps."""
