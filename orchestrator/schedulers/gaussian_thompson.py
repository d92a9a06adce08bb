"""Discounted Gaussian Thompson sampling: an environment is picked as often as it is plausibly the best.

    theta_k ~ Normal((S_k + n0 mu0) / (N_k + n0), sigma^2 / (N_k + n0));  the environment of the highest theta

with discounted N and S. Source: arXiv 1707.09727 (dTS, there with Beta posteriors; here Gaussian ones, for bounded real
rewards); curricula reference, section 3.5.
Reward: any number of about the size of sigma. An environment without a stage drifts back to the prior
(mu0, sigma^2 / n0); one that never had any comes first. A stage without signal teaches nothing. A stage counts half
after ln .5 / ln gamma later stages.
The probability that an environment's theta is the highest is computed by quadrature, recorded, and drawn from.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
from pydantic import Field

from orchestrator.bandits import thompson
from orchestrator.schedulers.guards import GuardConfig, GuardedScheduler

SOURCE = "arXiv 1707.09727"


class Config(GuardConfig):
    type: Literal["gaussian_thompson"] = "gaussian_thompson"
    discount: float = Field(0.8, gt=0, lt=1, description="gamma: weight of the past, per stage.")
    prior_mean: float = Field(0.5, description="mu0: what an environment without data is thought to earn.")
    prior_weight: float = Field(1.0, gt=0, description="n0: stages that the prior counts for.")
    sigma: float = Field(0.3, gt=0, description="Standard deviation of one stage's reward.")


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> GuardedScheduler:
    names = list(arms)
    options = thompson.Config(**config.model_dump(include={"discount", "prior_mean", "prior_weight", "sigma"}))
    return GuardedScheduler(names, rng, thompson.Thompson(names, rng, options, by_slot=False), config)
