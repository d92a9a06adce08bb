"""The interface of a teacher: the choice of a point in a box of a generator's parameters, every one scaled to [0, 1].

This package imports numpy, pydantic, scikit-learn and the contracts of bandits alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from orchestrator.bandits.contracts import ChooserConfig, Floats, Stateful


class TeacherConfig(ChooserConfig):
    """Options of every teacher."""


class Teacher(Stateful, ABC):
    """Chooses points of the unit box of d dimensions, and learns from the scores there; all randomness is from `rng`.

    Heavy fits run in a thread and are adopted at a fixed later call, so that thread timing never decides what is
    chosen: a resumed run chooses the same points.
    """

    def __init__(self, num_dims: int, rng: np.random.Generator) -> None:
        self.num_dims, self.rng = num_dims, rng

    @abstractmethod
    def choose(self, n: int) -> Floats:
        """Choose n points [n, d] in [0, 1]."""

    @abstractmethod
    def learn(self, points: Floats, scores: Floats) -> None:
        """Learn from the mean scores [m] in [0, 1] of groups at points [m, d], oldest first."""

    def close(self) -> None:
        """End its thread, if any."""
