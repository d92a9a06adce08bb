"""Discounted Beta Thompson sampling: an arm is picked as often as its success rate is plausibly the highest.

    every step:  a_k <- g a_k + n_k r_k,  b_k <- g b_k + n_k (1 - r_k),  for all arms k   (n_k slots of mean reward r_k)
    theta_k ~ Beta(1 + a_k, 1 + b_k);  the highest theta is picked, slot by slot

Source: arXiv 1707.09727; curricula reference, section 3.5. Discount 1 is stationary Thompson sampling, which does not
notice a change for long: no rule for a policy that learns.
Reward: in [0, 1], anything else is refused; made for 0/1, and a fraction counts as that share of a success. The
posterior takes rewards for as noisy as coin flips: for mean |advantage| the Gaussian form (`thompson`) fits better.
An arm never seen is uniform on [0, 1]; one that is not picked drifts back to that, so it is tried again. It forgets
with weight g^s after s steps: half-life 6.6 steps at .9.
The probability of every arm to have the highest theta is found by quadrature (`best_arm`, error below 2e-4), drawn from
and recorded: the slots of a batch are independent, as fresh thetas for each of them are.
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
    """Options of Beta Thompson sampling."""

    type: Literal["beta_thompson"] = "beta_thompson"
    discount: float = Field(0.9, gt=0, le=1, description="Weight g of the past, per step; 1 never forgets.")


class BetaThompson(DiscountedMeans):
    """The rule; see the module."""

    def __init__(self, arms: Iterable[str], rng: np.random.Generator, config: Config) -> None:
        super().__init__(arms, rng, config.discount, config.floor)

    def posterior(self) -> tuple[Floats, Floats]:
        """Both parameters of every arm's Beta distribution, [K] each, at least 1."""
        return 1 + self.total, 1 + np.maximum(self.weight - self.total, 0.0)

    def preferences(self) -> Floats:
        """Probability of each arm to have the highest theta."""
        return best_of_betas(*self.posterior())

    def observe(self, seen: StepFeedback) -> None:
        """Count successes and failures."""
        beyond = seen.reward[(seen.reward < 0) | (seen.reward > 1)]
        if beyond.size:
            raise ValueError(
                f"beta_thompson takes rewards in [0, 1] and was given {beyond[0]:g}: choose `thompson` for others"
            )
        super().observe(seen)


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> BetaThompson:
    """Make the bandit of a spec."""
    return BetaThompson(arms, rng, config)
