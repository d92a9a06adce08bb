"""Discounted Beta Thompson sampling: an arm is picked as often as its success rate is plausibly the highest.

    every step:  S_k <- gamma S_k + n_k r_k,  F_k <- gamma F_k + n_k (1 - r_k),  for all arms k  (n_k slots, mean r_k)
    theta_k ~ Beta(1 + S_k, 1 + F_k);  the arm of the highest theta, slot by slot

Source: arXiv 1707.09727 (dTS); curricula reference, section 3.5. gamma = 1 is stationary Thompson sampling, which is
slow to notice a change: no rule for a policy that learns.
Reward: in [0, 1], others are refused; made for 0/1, a fraction is that share of a success. The posterior assumes noise
as of coin flips: for mean |advantage| the Gaussian form (`thompson`) fits better.
An arm never seen is uniform on [0, 1]; one not picked drifts back to that. Weight gamma^s after s steps: half-life 6.6
steps at .9.
P(theta_k is the highest) is computed by quadrature (`probability_of_best`, error below 2e-4), drawn from and recorded:
the same as fresh thetas for every slot.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
from pydantic import Field

from orchestrator.bandits.contracts import BanditConfig, Floats, StepFeedback
from orchestrator.bandits.discounted_means import DiscountedMeans
from orchestrator.bandits.probability_of_best import best_of_betas

SOURCE = "arXiv 1707.09727"


class Config(BanditConfig):
    type: Literal["beta_thompson"] = "beta_thompson"
    discount: float = Field(0.9, gt=0, le=1, description="gamma: weight of the past, per step; 1: no decay.")


class BetaThompson(DiscountedMeans):
    def __init__(self, arms: Iterable[str], rng: np.random.Generator, config: Config) -> None:
        super().__init__(arms, rng, config.discount, config.floor)
        self.config = config

    def posterior(self) -> tuple[Floats, Floats]:
        """Parameters of every arm's Beta distribution, [K] each, at least 1."""
        return 1 + self.total, 1 + np.maximum(self.weight - self.total, 0.0)

    def preferences(self) -> Floats:
        return best_of_betas(*self.posterior())

    def observe(self, seen: StepFeedback) -> None:
        beyond = seen.reward[(seen.reward < 0) | (seen.reward > 1)]
        if beyond.size:
            raise ValueError(
                f"{self.config.type} takes rewards in [0, 1] and was given {beyond[0]:g}: choose `thompson` for others"
            )
        super().observe(seen)


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> BetaThompson:
    return BetaThompson(arms, rng, config)
