"""Discounted Gaussian Thompson sampling: an environment is picked as often as it is plausibly the best.

    theta_k ~ Normal((S_k + n0 mu0) / (N_k + n0), sigma^2 / (N_k + n0));  the highest theta is picked

with discounted N and S. Source: arXiv 1707.09727 (discounted Thompson sampling; there with Beta posteriors, here the
Gaussian form for bounded real rewards); curricula reference, section 3.5.
Reward: any real number of about the size of sigma. An environment that had no stage drifts back to the prior
(mu0, sigma^2 / n0), so it is tried again; one that never had any comes first. A stage without signal teaches
nothing. A stage counts half after ln .5 / ln discount later stages.
The probability that an environment's theta is the highest is found by quadrature, recorded, and drawn from.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import numpy as np
from pydantic import Field

from orchestrator.bandits.discounted import DiscountedMeans
from orchestrator.bandits.softmax import normalised
from orchestrator.schedulers.guarded import Guarded, GuardedConfig

SOURCE = "arXiv 1707.09727"

NUM_POINTS = 2001  # of the quadrature, over all means +- 8 standard deviations
_erf = np.vectorize(math.erf, otypes=[np.float64])


class Config(GuardedConfig):
    """Options of Gaussian Thompson sampling, on the stage's clock."""

    type: Literal["gaussian_thompson"] = "gaussian_thompson"
    discount: float = Field(0.8, gt=0, lt=1, description="Weight g of the past, per stage.")
    prior_mean: float = Field(0.5, description="mu0: what an environment without data is thought to earn.")
    prior_weight: float = Field(1.0, gt=0, description="n0: stages that the prior counts for.")
    sigma: float = Field(0.3, gt=0, description="Standard deviation of one stage's reward.")


class GaussianThompson(DiscountedMeans):
    """The posterior rule; see the module."""

    def __init__(self, arms: Iterable[str], rng: np.random.Generator, config: Config) -> None:
        super().__init__(arms, rng, config.discount)
        self.config = config

    def posterior(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of every arm, [K] each."""
        c = self.config
        weight = np.array([self.weight[arm] for arm in self.arms]) + c.prior_weight
        total = np.array([self.total[arm] for arm in self.arms]) + c.prior_weight * c.prior_mean
        return total / weight, c.sigma / np.sqrt(weight)

    def preferences(self) -> np.ndarray:
        """Probability of each arm to have the highest theta."""
        return probability_of_being_best(*self.posterior())


def probability_of_being_best(mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """P(theta_k is the highest) for independent normal thetas, [K]; error below 1e-6.

    The integral over x of density_k(x) times the product over j != k of cdf_j(x), by the trapezoidal rule.
    """
    x = np.linspace((mean - 8 * sd).min(), (mean + 8 * sd).max(), NUM_POINTS)
    z = (x - mean[:, None]) / sd[:, None]
    density = np.exp(-0.5 * z**2) / sd[:, None]
    below = 0.5 * (1 + _erf(z / math.sqrt(2)))
    best = [(density[k] * np.delete(below, k, axis=0).prod(axis=0)).sum() for k in range(len(mean))]
    return normalised(np.array(best))


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> Guarded:
    """Make the scheduler of a spec."""
    names = list(arms)
    return Guarded(names, rng, GaussianThompson(names, rng, config), config)
