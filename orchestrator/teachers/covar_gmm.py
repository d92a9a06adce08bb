"""Covar-GMM: draws from the Gaussians in which scores rise with time.

    on the last 250 rows [x, t, r], t = place in the block from 0 to 1, a mixture of k = 2..10 Gaussians by AIC;
    a Gaussian with probability proportional to max(0, cov(t, r)), then x from it;   uniform with share `explore`

Source: arXiv 1910.07224, a baseline there, and its published code; the idea is that of Moulin-Frier et al. 2014 (not
verified).
Scores: in [0, 1]. It forgets all but the last `fit_every` groups at each fit.
Where no score rises, every Gaussian is as likely; `absolute` also follows what is being forgotten.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from orchestrator.bandits.contracts import Floats
from orchestrator.teachers.mixture_teacher import Mixture, MixtureConfig, MixtureTeacher

SOURCE = "arXiv 1910.07224"

ROUNDING = 1e-9  # smaller covariances are none: equal scores have one of some 1e-18


class Config(MixtureConfig):
    type: Literal["covar_gmm"] = "covar_gmm"
    absolute: bool = Field(False, description="Falling scores are worth as much as rising ones.")


class CovarGmm(MixtureTeacher):
    config: Config

    def measure(self, points: Floats, scores: Floats) -> Floats:
        """Place in the block and score [m, 2]."""
        at = np.arange(self.num_learned, self.num_learned + len(points))
        return np.column_stack([at % self.config.fit_every / self.config.fit_every, scores])

    def worth(self, mixture: Mixture) -> Floats:
        """Covariance of time and score in every Gaussian."""
        covariance = mixture.covariances[:, -2, -1]
        rise = np.abs(covariance) if self.config.absolute else covariance
        return np.where(rise > ROUNDING, rise, 0.0)


def create(config: Config, num_dims: int, rng: np.random.Generator) -> CovarGmm:
    return CovarGmm(num_dims, rng, config)
