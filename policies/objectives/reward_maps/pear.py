"""PEAR: r' = r - max(0, H_think - alpha * H_answer) on correct answers, a penalty on uncertain thinking.

Symbols: H_think the mean entropy (nats) of an answer's tokens up to the closing think tag, H_answer of those behind
it, both under the policy that wrote them, as the sampler reported them; alpha the `pear_alpha`. Without a tag all
is thinking and H_answer = 0.

How the penalty joins the reward is not verified; we subtract it from correct answers only, so that a wrong answer
is never better for being confident than a correct one is for being right, and groups of wrong answers stay silent.

Entropy: lowers it, that is its purpose: answers become 38 to 59 % shorter. Hazard: together with a collapse it
speeds it; take it for its length, with a force that holds entropy.

Empty cases: no token of a kind gives that mean 0; no correct answer changes nothing.

Source: Phase Entropy Aware Reward, arXiv 2510.08026.
"""

from __future__ import annotations

from pydantic import Field

from policies.objectives.parts import Outcomes, Part, PartInfo, PartOptions, PartState, RewardMap, Tensor

SOURCE = "arXiv 2510.08026"
INFO = PartInfo(missing="how the penalty joins the reward: ours is charged on correct answers only", reads_tokens=True)


class Config(PartOptions):
    pear_alpha: float = Field(1.0, ge=0)
    """Weight of the answer's entropy against that of the thinking."""


def create(config: Config) -> RewardMap:
    def apply(outcomes: Outcomes, memory: PartState) -> Tensor:
        is_thought_BT = outcomes.mask_BT & ~outcomes.is_answer_BT
        think_B = mean_entropy(outcomes.entropy_BT, is_thought_BT)
        answer_B = mean_entropy(outcomes.entropy_BT, outcomes.is_answer_BT & outcomes.mask_BT)
        return outcomes.reward_B - penalty(think_B, answer_B, config.pear_alpha) * outcomes.correct_B

    return Part(apply)


def penalty(think_B: Tensor, answer_B: Tensor, alpha: float) -> Tensor:
    """What a response pays for mean entropies of its two phases, [B]."""
    return (think_B - alpha * answer_B).clamp(min=0)


def mean_entropy(entropy_BT: Tensor, is_in_BT: Tensor) -> Tensor:
    """Mean entropy over some tokens of each row, [B], 0 where there are none."""
    return entropy_BT.masked_fill(~is_in_BT, 0.0).sum(-1) / is_in_BT.sum(-1).clamp(min=1)
