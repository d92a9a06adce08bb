"""Truncated importance weights of whole sequences: A' = A * min(exp(sum of d), C), on all tokens of the sequence.

Symbols: d = lp_old - lp_roll, the trainer's log-prob at the start of the step minus the one that the sampler
reported, summed over the policy's tokens of the sequence; C the cap. It is the weight that is right in the mean for a
reward given to a whole answer; `tis`, of tokens, is biased and far less noisy.

Entropy: a small effect. Hazard: the sum grows with length. A bias of 1e-3 a token is e^4 at 4000 tokens, and long
answers then have the weight C or nearly 0: prefer `tis` for them, which this replaces.

Empty cases: equal log-probs, and a sequence without a token of the policy, give the weight 1. The sum is clamped to
+-20.

Source: "Your Efficient RL Framework Secretly Brings You Off-Policy RL Training" (2025); verl `rollout_corr_helper`.
C = 2 to 10 there; we take 2.
"""

from __future__ import annotations

from pydantic import Field

from policies.objectives.contracts import ShapedRows, Totals
from policies.objectives.mismatch_weights import sequence_sum, weighed
from policies.objectives.parts import Part, PartInfo, PartOptions, Shaped, Shaper, Tensor, exp_clamped

SOURCE = "Your Efficient RL Framework Secretly Brings You Off-Policy RL Training (2025)"
INFO = PartInfo(is_importance_weight=True)


class Config(PartOptions):
    seq_tis_cap: float = Field(2.0, ge=1)
    """Largest weight of a sequence."""


def create(config: Config) -> Shaper:
    def apply(advantage_BT: Tensor, rows: ShapedRows, totals: Totals) -> Shaped:
        raw_BT = exp_clamped(sequence_sum(rows.lp_old_BT - rows.lp_roll_BT, rows.mask_BT))
        weight_BT, is_capped_BT = raw_BT.clamp(max=config.seq_tis_cap), raw_BT > config.seq_tis_cap
        return weighed(advantage_BT, weight_BT, "seq_tis", capped_frac=is_capped_BT)

    return Part(apply, frozenset({"lp_old", "lp_roll"}), zero_stays_zero=True)
