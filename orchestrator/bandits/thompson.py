"""Discounted Gaussian Thompson sampling: an arm is picked as often as it is plausibly the best.

    every step:  N_k <- g N_k + n_k,  S_k <- g S_k + n_k r_k,  for all arms k   (n_k slots of mean reward r_k)
    theta_k ~ Normal((S_k + n0 mu0) / (N_k + n0), sigma^2 / (N_k + n0));  the highest theta is picked, slot by slot

Source: arXiv 1707.09727 (discounted Thompson sampling; there with Beta posteriors, here the Gaussian form for bounded
real rewards such as mean |advantage|); curricula reference, section 3.5.
Reward: any real number of about the size of sigma, the standard deviation of one slot's reward. With the standardised
signal mu0 .5, sigma 1, n0 1 and discount .9 did well (8.2); the default is the same for the raw one, whose range is
half as large. An arm never seen has the prior; one that is not picked drifts back to it, so it is tried again. It
forgets with weight g^s after s steps: half-life 6.6 steps at .9.
The probability of every arm to have the highest theta is found by quadrature (`best_arm`), drawn from and recorded: the
slots of a batch are independent, as fresh thetas for each of them are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
from pydantic import Field

from orchestrator.bandits.contracts import BanditConfig, Floats
from orchestrator.bandits.discounted_means import DiscountedMeans
from orchestrator.bandits.probability_of_best import best_of_normals

SOURCE = "arXiv 1707.09727"


class Config(BanditConfig):
    """Options of Gaussian Thompson sampling."""

    type: Literal["thompson"] = "thompson"
    discount: float = Field(0.9, gt=0, le=1, description="Weight g of the past, per step; 1 never forgets.")
    prior_mean: float = Field(0.25, description="mu0: what an arm without data is thought to earn.")
    prior_weight: float = Field(1.0, gt=0, description="n0: slots that the prior counts for.")
    sigma: float = Field(0.5, gt=0, description="Standard deviation of one slot's reward.")


class Thompson(DiscountedMeans):
    """The rule; see the module. `by_slot`: whether N counts slots (default) or steps, as a scheduler's does."""

    def __init__(
        self, arms: Iterable[str], rng: np.random.Generator, config: Config, *, by_slot: bool = True
    ) -> None:
        super().__init__(arms, rng, config.discount, config.floor, by_slot=by_slot)
        self.config = config

    def posterior(self) -> tuple[Floats, Floats]:
        """Mean and standard deviation of every arm's theta, [K] each."""
        c = self.config
        weight = self.weight + c.prior_weight
        return (self.total + c.prior_weight * c.prior_mean) / weight, c.sigma / np.sqrt(weight)

    def preferences(self) -> Floats:
        """Probability of each arm to have the highest theta."""
        return best_of_normals(*self.posterior())


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> Thompson:
    """Make the bandit of a spec."""
    return Thompson(arms, rng, config)
