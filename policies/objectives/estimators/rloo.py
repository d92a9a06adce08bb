"""Leave-one-out advantages: A_i = r_i - mean of the other rewards of the group = n / (n - 1) * (r_i - mean).

Symbols: r_i the reward of sample i, n the size of its group. Unbiased, and in the unit of the reward: groups
that are nearly solved or nearly hopeless are not magnified.

Empty cases: a group of one, and a group of equal rewards, give 0. Missing members are left out, not counted as 0.

Source: Back to Basics: Revisiting REINFORCE Style Optimization, arXiv 2402.14740, section 3.
"""

from __future__ import annotations

from policies.objectives.parts import Estimator, Part, PartOptions, Tensor
from policies.objectives.statistics import centred, group_size

SOURCE = "arXiv 2402.14740"


Config = PartOptions


def create(config: Config) -> Estimator:
    return Part(lambda outcomes, memory: estimate(outcomes.reward_B, outcomes.group_B))


def estimate(reward_B: Tensor, group_B: Tensor) -> Tensor:
    size_B = group_size(group_B)
    return centred(reward_B, group_B) * size_B / (size_B - 1).clamp(min=1)
