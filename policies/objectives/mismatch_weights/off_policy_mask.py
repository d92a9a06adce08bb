"""Off-policy mask: A' = 0 where A < 0 and mean(lp_roll - lp) > delta, else A.

Symbols: lp_roll - lp, the sampler's log-prob minus that of the policy being updated, averaged over the policy's tokens
of the sequence: an estimate of the KL that the policy has moved since the sequence was written; delta the bound. To
push a bad answer further down that the policy has moved away from already moves probability anywhere; good answers
always count. It weighs nothing, so it may stand beside any weight, `mismatch: [tis, off_policy_mask]`, and reads the
policy as it is now, so it acts more from update to update of a step. delta has no default, as the report names none:
look at the mean of `sampler_kl` over some steps and take several times that.

Entropy: dropping negative updates on unlikely answers slows the fall. Hazard: with a small delta only good answers
count, which lowers entropy.

Empty cases: A = 0 stays 0; a sequence without a token of the policy is kept. The sign is that of the token's own
shaped advantage.

Source: DeepSeek-V3.2 report (2025), off-policy sequence masking; TRL `trl/trainer/grpo_trainer.py`.
"""

from __future__ import annotations

from pydantic import Field

from policies.objectives.contracts import ShapedRows, Totals
from policies.objectives.mismatch_weights import masked, sequence_mean
from policies.objectives.parts import Part, PartOptions, Shaped, Shaper, Tensor

SOURCE = "DeepSeek-V3.2 report (2025)"


class Config(PartOptions):
    off_policy_mask_delta: float = Field(gt=0)
    """Largest mean of lp_roll - lp of a bad sequence that still counts, nats a token; yours to choose."""


def create(config: Config) -> Shaper:
    def apply(advantage_BT: Tensor, rows: ShapedRows, totals: Totals) -> Shaped:
        moved_BT = sequence_mean(rows.lp_roll_BT - rows.lp_BT, rows.mask_BT)
        keep_BT = (advantage_BT >= 0) | (moved_BT <= config.off_policy_mask_delta)
        return masked(advantage_BT, keep_BT, "off_policy_mask")

    return Part(apply, frozenset({"lp_roll"}), zero_stays_zero=True)
