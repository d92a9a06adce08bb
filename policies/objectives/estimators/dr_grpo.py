"""Dr. GRPO advantages: A_i = r_i - mean of the group, without division by the standard deviation.

Its paper pairs it with the `constant` aggregation, so that neither the spread of a group nor the length of an
answer changes the weight of a token.

Empty cases: a group of one, and a group of equal rewards, give 0. Missing members are left out, not counted as 0.

Source: Understanding R1-Zero-Like Training: A Critical Perspective, arXiv 2503.20783, section 3.
"""

from __future__ import annotations

from policies.objectives.parts import Estimator, Part, PartOptions
from policies.objectives.statistics import centred

SOURCE = "arXiv 2503.20783"


Config = PartOptions


def create(config: Config) -> Estimator:
    return Part(lambda outcomes, memory: centred(outcomes.reward_B, outcomes.group_B))
