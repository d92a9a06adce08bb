"""Discounted UCB: the environment with the highest optimistic estimate, old stages counting ever less.

    after every stage:  N_k <- gamma N_k + [k had it],  S_k <- gamma S_k + r [k had it]
    index_k = S_k / N_k + width sqrt(xi ln n / N_k),  n = sum of N;  the environment of the highest index

Source: arXiv 0805.3415 (Garivier and Moulines, D-UCB), where width = 2 B; curricula reference, section 3.3. The
theory's constants explore far too much in practice; the defaults were chosen in the worlds of stages of section 8.5
(docs/results/bandits.md).
Reward: in [0, 1]. An environment without a stage keeps its mean while its bonus grows; one that never had any comes
first. A stage without signal teaches nothing. A stage counts half after ln .5 / ln gamma later stages.
The probability of the best index is 1 before the guards; ties are shared equally.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
from pydantic import Field

from orchestrator.bandits import discounted_ucb as bandit
from orchestrator.schedulers.guards import GuardConfig, GuardedScheduler

SOURCE = "arXiv 0805.3415"


class Config(GuardConfig):
    type: Literal["discounted_ucb"] = "discounted_ucb"
    discount: float = Field(0.7, gt=0, lt=1, description="gamma: weight of the past, per stage.")
    width: float = Field(0.2, gt=0, description="Of the bonus, in units of the reward; 2 B in the paper.")
    xi: float = Field(0.5, ge=0.5, description="Exploration constant of the paper.")


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> GuardedScheduler:
    names = list(arms)
    options = bandit.Options(discount=config.discount, width=config.width, xi=config.xi)
    return GuardedScheduler(names, rng, bandit.DiscountedUcb(names, rng, options, by_slot=False), config)
