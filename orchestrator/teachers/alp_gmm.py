"""ALP-GMM: draws from the Gaussians in which scores change most, up or down.

    ALP = |r - r of the nearest earlier task|;   on the last 250 rows [x, ALP] a mixture of k = 2..10 Gaussians by AIC;
    a Gaussian with probability proportional to its mean ALP, then x from it;   uniform with share `explore`

Source: arXiv 1910.07224 and its published code.
Scores: in [0, 1]. The ALP of the first 6 tasks is 0. Of several nearest tasks, the latest counts.
It forgets all but the last `fit_every` rows at each fit; earlier tasks only serve as neighbours.
The published code keeps every earlier task (`history: null`) and finds neighbours by a tree; here all are compared,
which is as fast up to some ten thousand.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from orchestrator.bandits.contracts import Floats
from orchestrator.teachers.mixture_teacher import Mixture, MixtureConfig, MixtureTeacher

SOURCE = "arXiv 1910.07224"

FEWEST = 6  # earlier tasks: with less, a task's ALP is 0


class Config(MixtureConfig):
    type: Literal["alp_gmm"] = "alp_gmm"
    history: int | None = Field(
        10_000,
        ge=FEWEST,
        description="Latest tasks among which the nearest earlier one is looked for; null: all.",
    )


class AlpGmm(MixtureTeacher):
    saved = ("points", "scores")
    config: Config

    def __init__(self, num_dims: int, rng: np.random.Generator, config: Config) -> None:
        super().__init__(num_dims, rng, config)
        self.points: Floats = np.empty((0, num_dims))  # [N, d], oldest first
        self.scores: Floats = np.empty(0)  # [N]

    def measure(self, points: Floats, scores: Floats) -> Floats:
        """ALP [m, 1]: against the nearest earlier task, also of the same call."""
        num_known = len(self.points)
        known, scored = np.vstack([self.points, points]), np.append(self.scores, scores)
        progress = [self._progress(known, scored, at) for at in range(num_known, len(known))]
        first = 0 if self.config.history is None else max(0, len(known) - self.config.history)
        self.points, self.scores = known[first:], scored[first:]
        return np.array(progress).reshape(-1, 1)

    def _progress(self, points: Floats, scores: Floats, at: int) -> float:
        if at < FEWEST:
            return 0.0
        apart = points[:at] - points[at]
        distances = np.einsum("nd,nd->n", apart, apart)
        nearest = at - 1 - int(distances[::-1].argmin())
        return abs(float(scores[at] - scores[nearest]))

    def worth(self, mixture: Mixture) -> Floats:
        """Mean ALP of every Gaussian, whatever its weight."""
        return np.maximum(mixture.means[:, -1], 0.0)


def create(config: Config, num_dims: int, rng: np.random.Generator) -> AlpGmm:
    return AlpGmm(num_dims, rng, config)
