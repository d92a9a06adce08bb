"""MaxRL's advantages: A_i = (r_i - mean) / (mean + eps), mean over the group's rewards.

Symbols: r_i the reward of sample i, 0 or 1 in the paper. Dividing by the success rate turns the policy gradient (of
the expected reward) towards the gradient of the log-likelihood of success: the rarer success is, the more a success
counts. With k of n correct, a correct sample gets about (n - k) / k.

Entropy: slows the fall on solved tasks, which it weighs little, and speeds it on nearly hopeless ones. Hazard: one
success in a large group gets an advantage of n - 1, a false positive of the verifier too.

Empty cases: a mean of 0 gives 0, and so does a mean below 0, which only a penalty can make and for which the source
says nothing: division by it would turn the signs. A group of one, and a group of equal rewards, give 0.

Source: MaxRL, arXiv 2602.02710; checked against SkyRL `ppo_utils.py`.
"""

from __future__ import annotations

from pydantic import Field

from policies.objectives.parts import Estimator, Outcomes, Part, PartOptions, PartState, Tensor
from policies.objectives.statistics import centred, group_size, group_sum

SOURCE = "arXiv 2602.02710"


class Config(PartOptions):
    maxrl_eps: float = Field(1e-6, gt=0)
    """Added to the group's mean reward."""


def create(config: Config) -> Estimator:
    def apply(outcomes: Outcomes, memory: PartState) -> Tensor:
        mean_B = group_sum(outcomes.reward_B, outcomes.group_B) / group_size(outcomes.group_B)
        advantage_B = centred(outcomes.reward_B, outcomes.group_B) / (mean_B.clamp(min=0) + config.maxrl_eps)
        return advantage_B.masked_fill(mean_B <= 0, 0.0)

    return Part(apply)
