"""HAPO's advantages: A_i = (r_i - mu) / (sigma + eps), mu and sigma of the rewards over the group's tokens.

Symbols: every token carries the reward r_i of its answer; mu is their mean and sigma their population standard
deviation over all tokens that the policy wrote in the group, so that long answers count more. Summed over tokens
the advantages of a group are 0, whatever the lengths are: under a token mean no answer wins by its length.

Fallback, by the group: if any |A| reaches the limit (5), which happens when one short answer differs from many
long ones, the group takes GRPO's advantages instead.

Entropy: as GRPO, whose division it shares; neutral to lengths. Hazard: sensitive to a penalty on overlong answers.

Empty cases: a group of one, and a group of equal rewards, give 0. An answer without a token does not count.

Source: From Uniform to Heterogeneous (HAPO), arXiv 2509.16591; checked against starriver030515/HAPO `core_algos.py`
(`compute_hapo_outcome_advantage`). Not the several other methods of that name.
"""

from __future__ import annotations

from pydantic import Field

from policies.objectives.estimators import grpo
from policies.objectives.parts import Estimator, Outcomes, Part, PartInfo, PartOptions, PartState, Tensor
from policies.objectives.statistics import centred, group_sum

SOURCE = "arXiv 2509.16591"
INFO = PartInfo(reads_tokens=True)


class Config(PartOptions):
    hapo_limit: float = Field(5.0, gt=0)
    """A group in which any advantage reaches this size takes those of GRPO."""
    hapo_eps: float = Field(1e-6, gt=0)
    """Added to the standard deviation, here and in the fallback."""


def create(config: Config) -> Estimator:
    def apply(outcomes: Outcomes, memory: PartState) -> Tensor:
        group_B, num_B = outcomes.group_B, outcomes.num_tokens_B.to(outcomes.reward_B)
        has_spread_B = group_sum((centred(outcomes.reward_B, group_B) != 0).long(), group_B) > 0
        num_group_B = group_sum(num_B, group_B).clamp(min=1)
        centred_B = outcomes.reward_B - group_sum(outcomes.reward_B * num_B, group_B) / num_group_B
        std_B = (group_sum(centred_B**2 * num_B, group_B) / num_group_B).sqrt()
        advantage_B = (centred_B / (std_B + config.hapo_eps)).masked_fill(~has_spread_B | (num_B == 0), 0.0)
        is_large_B = group_sum((advantage_B.abs() >= config.hapo_limit).long(), group_B) > 0
        return advantage_B.where(~is_large_B, grpo.estimate(outcomes, "sample", config.hapo_eps))

    return Part(apply)
