"""EXP3 and EXP3.S: exponential weights on importance-weighted rewards, for rewards that may be adversarial.

    P_k = (1 - gamma) w_k / sum w + gamma / K;   x_k = sum over the arm's slots in the step of r / P_k, P at the draw
    w_k <- w_k exp(eta x_k) + (e alpha / K) sum of the old w,  once a step;   alpha = 0: EXP3, alpha > 0: EXP3.S

with gamma = `exploration`, eta = `rate`, alpha = `share`. Source: Auer, Cesa-Bianchi, Freund, Schapire, The
nonstochastic multiarmed bandit problem, 2002; curricula reference, section 3.6. There one slot is a step; here a batch
is one summed update with its P frozen. The paper's eta is gamma / K (`rate: null`) and its tuned alpha 1 / T for T
steps: slow for a policy that learns. For batches of 64 and 12 arms an eta of .02 did well with the standardised signal
(section 8.2), .04 with the raw one, whose range is half.
Reward: in [0, 1]; the larger it is, the larger the steps. Weights are kept as logarithms, the largest 0.
An arm not picked keeps its weight, but for what is shared; one never seen begins level with the likeliest. Without
alpha nothing is forgotten; with it no arm has less than about e alpha / K of the weight.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import numpy as np
from pydantic import Field

from orchestrator.bandits.contracts import Bandit, BanditConfig, Floats, StepFeedback
from orchestrator.bandits.softmax import softmax

SOURCE = "Auer, Cesa-Bianchi, Freund, Schapire 2002"


class Config(BanditConfig):
    type: Literal["exp3"] = "exp3"
    exploration: float = Field(0.1, gt=0, le=1, description="Total uniform mass gamma of the rule itself.")
    rate: float | None = Field(None, gt=0, description="eta: learning rate, per slot. Null: exploration / K.")
    share: float = Field(
        0.1, ge=0, le=1, description="alpha: every arm gains e alpha / K of all weight, per step; 0: EXP3."
    )


class ExponentialWeights(Bandit):
    """P = (1 - gamma) softmax(log w) + gamma / K; a rule moves `log_weight`, [K], by `set_weights`."""

    log_weight: Floats

    def __init__(self, arms: Iterable[str], rng: np.random.Generator, floor: float, exploration: float = 0.0) -> None:
        super().__init__(arms, rng, floor)
        self.exploration = exploration
        self.keep(log_weight=0.0)

    def preferences(self) -> Floats:
        gamma = self.exploration
        return np.asarray((1 - gamma) * softmax(self.log_weight) + gamma / len(self.arms))

    def set_weights(self, log_weight: Floats) -> None:
        """Take new weights, scaled so that the largest logarithm is 0."""
        self.log_weight = log_weight - log_weight.max()


class Exp3(ExponentialWeights):
    def __init__(self, arms: Iterable[str], rng: np.random.Generator, config: Config) -> None:
        super().__init__(arms, rng, config.floor, config.exploration)
        self.config = config

    def observe(self, seen: StepFeedback) -> None:
        c, num_arms = self.config, len(self.arms)
        eta = c.exploration / num_arms if c.rate is None else c.rate
        moved = self.log_weight.copy()
        moved[seen.at] += eta * seen.importance
        if c.share:
            shared = math.log(math.e * c.share / num_arms) + np.logaddexp.reduce(self.log_weight)
            moved = np.logaddexp(moved, shared)
        self.set_weights(moved)


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> Exp3:
    return Exp3(arms, rng, config)
