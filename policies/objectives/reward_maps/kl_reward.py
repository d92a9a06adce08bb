"""KL in the reward: r' = r - b * sum_t d_t, d_t = lp_roll - lp_ref, the estimate k1 of the KL to a reference.

Symbols: lp_roll the log-prob of a token under the policy that wrote it, lp_ref under a frozen reference; d is clamped
to +-20; b the `kl_reward`. Unlike k1 in the loss, whose expected gradient is 0, this has the gradient of the KL: the
estimator compares the sum with that of the other answers. Charged token by token it would be the term `kl` with k2.

Entropy: keeps it near that of the reference, as every KL to one does; old skills too. It limits how far a
curriculum goes.

Hazard: a sum over tokens, so long answers pay more, and its spread comes on top of that of the rewards: it can drown
them. Estimators that divide by the spread (`grpo`) scale it with everything else. The bandit's signal does not see it.

Empty cases: `kl_reward: 0` leaves the part out, and the reference is not asked.

Source: Fine-Tuning Language Models from Human Preferences, arXiv 1909.08593, section 2; verl `core_algos.py`.
"""

from __future__ import annotations

from pydantic import Field

from policies.objectives.errors import ObjectiveError
from policies.objectives.parts import MAX_LOG_RATIO, Outcomes, Part, PartOptions, PartState, RewardMap, Tensor

SOURCE = "arXiv 1909.08593"


class Config(PartOptions):
    """How strong."""

    kl_reward: float = Field(0.001, ge=0)
    """The coefficient b, reward per nat; 0: off."""


def create(config: Config) -> RewardMap | None:
    if config.kl_reward == 0:
        return None

    def apply(outcomes: Outcomes, memory: PartState) -> Tensor:
        if outcomes.kl_BT is None:
            raise ObjectiveError("`kl_reward` reads the reference's log-probs, and the outcomes carry none")
        return outcomes.reward_B - config.kl_reward * total(outcomes.kl_BT, outcomes.mask_BT)

    return Part(apply, frozenset({"lp_ref"}))


def total(kl_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """The estimate of each answer's KL to the reference, [B], nats."""
    return kl_BT.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).masked_fill(~mask_BT, 0.0).sum(-1)
