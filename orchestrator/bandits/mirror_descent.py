"""Actor-Curator's step without its network: mirror descent on the choice itself, by importance-weighted utilities.

    P = (1 - F) w / sum w + F / K, F the floor;   w_k <- w_k exp(clip(eta x_k, -20, 20)),  then
    w <- (1 - alpha) w / sum w + alpha / K

with eta = `rate`, alpha = `share`, and x_k the mean over the step's observed picks of u / P where the pick's arm was k,
else 0: unbiased for the utility of arm k, the mean reward of a pick of it, whatever the size of the batch. A pick that
dynamic sampling plays again is one pick still and earns the mean of its groups, which is more than a group of the arm
is worth, since it is played again only until a group has spread.
Source: arXiv 2602.20532 (online mirror descent with negative entropy), in the tabular form of the curricula reference,
section 4.3; the paper's loss constants are not verified. There a small network scores the prompts, and utility is the
old advantage times the likelihood ratio of the new policy; here it is the bandit's reward.
eta and alpha are ours, chosen on the raw signal in a simulation (section 8.1, scenario A, seeds 1000 to 1005).
Reward: any number; eta is in units of 1 / reward. An arm not picked keeps its weight, but for what is shared; one never
seen begins level with the likeliest. Without alpha nothing is forgotten; with it (not in the paper) no arm has less
than alpha / K of the weight, so a change of the best arm is found.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import numpy as np
from pydantic import Field

from orchestrator.bandits.contracts import BanditConfig, StepFeedback
from orchestrator.bandits.exp3 import ExponentialWeights

SOURCE = "arXiv 2602.20532"

LARGEST = 20.0  # exponent of one update


class Config(BanditConfig):
    type: Literal["mirror_descent"] = "mirror_descent"
    rate: float = Field(5.0, gt=0, description="Learning rate, per step, in units of 1 / signal.")
    floor: float = Field(0.1, ge=0, le=1, description="Total uniform mass F: P = (1 - F) P + F / K.")
    share: float = Field(0.2, ge=0, lt=1, description="alpha: weight spread evenly, per step; 0: the paper.")


class MirrorDescent(ExponentialWeights):
    def __init__(self, arms: Iterable[str], rng: np.random.Generator, config: Config) -> None:
        super().__init__(arms, rng, config.floor)
        self.config = config

    def observe(self, seen: StepFeedback) -> None:
        utility = seen.importance / seen.num_picks.sum()
        moved = self.log_weight.copy()
        moved[seen.at] += np.clip(self.config.rate * utility, -LARGEST, LARGEST)
        if share := self.config.share:
            shared = math.log(share / (1 - share) / len(moved)) + np.logaddexp.reduce(moved)
            moved = np.logaddexp(moved, shared)
        self.set_weights(moved)


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> MirrorDescent:
    return MirrorDescent(arms, rng, config)
