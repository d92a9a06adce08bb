"""KL in the reward: r' = r - b * sum_t d_t, d_t = lp_roll - lp_ref, the estimate k1 of the KL to a reference.

Symbols: lp_roll the log-prob of a token under the policy that wrote it, lp_ref under a frozen reference; d is clamped
to +-20; b the `kl_reward`. Unlike k1 in the loss, whose expected gradient is 0, this has the gradient of the KL: the
estimator compares the sum with that of the other answers. Charged token by token it would be the term `kl` with k2.

Entropy: keeps it near that of the reference, and old skills too; so it limits how far a curriculum goes. Hazard: long
answers pay more, and the spread of the sum can drown that of the rewards. Estimators that divide by the spread (`grpo`)
scale it with everything else. The bandit's signal does not see it.

Empty cases: `kl_reward: 0` that no controller moves leaves the part out, and the reference is not asked.

Source: Fine-Tuning Language Models from Human Preferences, arXiv 1909.08593, section 2; verl `core_algos.py`.
"""

from __future__ import annotations

from pydantic import Field

from policies.objectives.errors import ObjectiveError
from policies.objectives.parts import Outcomes, Part, PartInfo, PartOptions, PartState, RewardMap, Tensor, clamped

SOURCE = "arXiv 1909.08593"
INFO = PartInfo(reads_tokens=True)


class Config(PartOptions):
    kl_reward: float = Field(0.001, ge=0)
    """The coefficient b, reward per nat; 0: off."""


def create(config: Config) -> RewardMap | None:
    if config.is_off("kl_reward"):
        return None

    def apply(outcomes: Outcomes, memory: PartState) -> Tensor:
        if outcomes.kl_BT is None:
            raise ObjectiveError("`kl_reward` reads the reference's log-probs, and the outcomes carry none")
        kl_B = clamped(outcomes.kl_BT).masked_fill(~outcomes.mask_BT, 0.0).sum(-1)
        return outcomes.reward_B - config.kl_reward * kl_B

    return Part(apply, frozenset({"lp_ref"}))
