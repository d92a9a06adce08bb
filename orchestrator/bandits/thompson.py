"""Discounted Gaussian Thompson sampling: an arm is picked as often as it is plausibly the best.

    every step:  N_k <- gamma N_k + n_k,  S_k <- gamma S_k + n_k r_k,  for all arms k     (n_k slots of mean reward r_k)
    theta_k ~ Normal((S_k + n0 mu0) / (N_k + n0), sigma^2 / (N_k + n0));  the arm of the highest theta, slot by slot

Source: arXiv 1707.09727 (dTS, there with Beta posteriors; here Gaussian ones, for bounded real rewards such as mean
|advantage|); curricula reference, section 3.5.
Reward: any number of about the size of sigma, the standard deviation of one slot's reward. With the standardised signal
mu0 .5, sigma 1, n0 1, gamma .9 did well (8.2); the defaults halve mu0 and sigma for the raw one, of half the range.
An arm never seen has the prior; one not picked drifts back to it. Weight gamma^s after s steps: half-life 6.6 steps
at .9.
P(theta_k is the highest) is computed by quadrature (`probability_of_best`), drawn from and recorded: the same as fresh
thetas for every slot.
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
    type: Literal["thompson"] = "thompson"
    discount: float = Field(0.9, gt=0, le=1, description="gamma: weight of the past, per step; 1: no decay.")
    prior_mean: float = Field(0.25, description="mu0: what an arm without data is thought to earn.")
    prior_weight: float = Field(1.0, gt=0, description="n0: slots that the prior counts for.")
    sigma: float = Field(0.5, gt=0, description="Standard deviation of one slot's reward.")


class Thompson(DiscountedMeans):
    """Discounted Gaussian Thompson sampling; N counts slots, or with `by_slot=False` steps, as for schedulers."""

    def __init__(self, arms: Iterable[str], rng: np.random.Generator, config: Config, *, by_slot: bool = True) -> None:
        super().__init__(arms, rng, config.discount, config.floor, by_slot=by_slot)
        self.config = config

    def posterior(self) -> tuple[Floats, Floats]:
        """Mean and standard deviation of every arm's theta, [K] each."""
        c = self.config
        weight = self.weight + c.prior_weight
        return (self.total + c.prior_weight * c.prior_mean) / weight, c.sigma / np.sqrt(weight)

    def preferences(self) -> Floats:
        mean, sd = self.posterior()
        unseen = self.weight == 0
        num_alike = np.count_nonzero(unseen)  # they share the prior: one stands for all
        if num_alike < 2:
            return best_of_normals(mean, sd)
        others = np.flatnonzero(~unseen)
        entries, count = np.append(others, unseen.argmax()), np.ones(len(others) + 1)
        count[-1] = num_alike
        best = best_of_normals(mean[entries], sd[entries], count)
        preferences = np.full(len(mean), best[-1])
        preferences[others] = best[:-1]
        return preferences


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> Thompson:
    return Thompson(arms, rng, config)
