"""Uniform in the box, always: the baseline of teachers.

    x ~ uniform([0, 1]^d)

Source: baseline. It learns nothing.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from orchestrator.bandits.contracts import Floats
from orchestrator.teachers.contracts import Teacher, TeacherConfig

SOURCE = "baseline"


class Config(TeacherConfig):
    type: Literal["random"] = "random"


class Random(Teacher):
    def choose(self, n: int) -> Floats:
        return self.rng.random((n, self.num_dims))

    def learn(self, points: Floats, scores: Floats) -> None:
        """Learn nothing."""


def create(config: Config, num_dims: int, rng: np.random.Generator) -> Random:
    return Random(num_dims, rng)
