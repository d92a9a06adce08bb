"""COPO: A = w * A_local + (1 - w) * A_global, w = sigmoid(gamma * (E - rho0)); prompts compared where answers agree.

Symbols: A_local GRPO's advantage inside the group; A_global = (acc_q - mean) / std of the prompts' mean rewards
acc_q, given to every sample of prompt q; E the entropy (nats) of the distinct final answers of the group; gamma the
steepness and rho0 the entropy at which both count alike. A group whose answers are all the same has no spread, and
a global advantage still.

Prompts are compared inside one arm only: across arms, easy ones would be rewarded for being easy. Rewards stand for
accuracy, so reward maps count. The paper adds two losses; we add their advantages, which is the same as long as no
token is clipped. eps (1e-6) is added to both standard deviations, n - 1 form.

Entropy: the global part pushes whole groups up or down, the correct and the wrong alike. Hazard: with two possible
answers E is at most .693, so that w is always about 0: it needs tasks with many different answers. Do not drop groups
without spread (`dynamic_sampling`): they are what it is for.

Empty cases: one prompt in an arm, or equal accuracies, give A_global = 0; a group of one has A_local = 0.

Source: COPO, arXiv 2508.04138, from descriptions. The public code, hijih/copo-code, takes E in bits and another
threshold (b, .5 or 1): `copo_entropy: 0.347` or `0.693` is the same there in nats, with `copo_gamma` times 1.443.
"""

from __future__ import annotations

from pydantic import Field

from policies.objectives.estimators import grpo
from policies.objectives.parts import Estimator, Outcomes, Part, PartInfo, PartOptions, PartState, Tensor
from policies.objectives.statistics import group_size, group_sum

SOURCE = "arXiv 2508.04138"
INFO = PartInfo(
    learns_from_even_groups=True,
    missing="which constants: the public code (hijih/copo-code) has the entropy of answers in bits and b of .5 or 1, "
    "ours are nats and 1.5, from descriptions of the paper; two losses are added as advantages",
)
EPS = 1e-6


class Config(PartOptions):
    copo_gamma: float = Field(20.0, gt=0)
    """Steepness of the weight, per nat."""
    copo_entropy: float = Field(1.5, ge=0)
    """The entropy of answers rho0 at which both comparisons count alike, nats."""


def create(config: Config) -> Estimator:
    def apply(outcomes: Outcomes, memory: PartState) -> Tensor:
        weight_B = weigh(answer_entropy(outcomes), config)
        memory.log["copo_local_weight"] = float(weight_B.mean())
        local_B = grpo.estimate(outcomes, "sample", EPS)
        return weight_B * local_B + (1 - weight_B) * compare_prompts(outcomes)

    return Part(apply)


def weigh(entropy_B: Tensor, config: Config) -> Tensor:
    """The weight w of the comparison inside the group, [B], from the entropy of its answers."""
    return (config.copo_gamma * (entropy_B - config.copo_entropy)).sigmoid()


def answer_entropy(outcomes: Outcomes) -> Tensor:
    """The entropy of each row's group's final answers, [B], nats."""
    size_B = group_size(outcomes.group_B)
    kind_B = outcomes.group_B * (int(outcomes.answer_B.max()) + 1) + outcomes.answer_B
    share_B = group_size(kind_B).to(outcomes.reward_B) / size_B
    return -group_sum(share_B.log(), outcomes.group_B) / size_B


def compare_prompts(outcomes: Outcomes) -> Tensor:
    """The advantage of each row's prompt among the prompts of its arm, [B]."""
    size_B = group_size(outcomes.group_B).to(outcomes.reward_B)
    accuracy_B = group_sum(outcomes.reward_B, outcomes.group_B) / size_B
    num_B = group_sum(1 / size_B, outcomes.arm_B)  # prompts of the arm; each counts once, whatever its size
    centred_B = accuracy_B - group_sum(accuracy_B / size_B, outcomes.arm_B) / num_B
    variance_B = group_sum(centred_B**2 / size_B, outcomes.arm_B) / (num_B - 1).clamp(min=1)
    return centred_B / (variance_B.sqrt() + EPS)
