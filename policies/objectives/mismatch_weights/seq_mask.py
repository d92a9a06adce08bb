"""Importance weights of whole sequences, masked above a cap: A' = A * exp(sum of d) if that is at most C, else 0.

Symbols: d = lp_old - lp_roll, the trainer's log-prob at the start of the step minus the one that the sampler
reported, summed over the policy's tokens of the sequence; C the cap. As `seq_tis`, but a sequence that the sampler
wrote far too seldom is taken for noise and dropped instead of cut at the cap.

Entropy: a small effect; it drops the answers that gained most probability since they were written. Hazard: the sum
grows with length, so with a small bias long answers are all masked or nearly all weighed 0: prefer `tis`, which this
replaces.

Empty cases: equal log-probs, and a sequence without a token of the policy, give the weight 1. The sum is clamped to
+-20.

Source: TRL `trl/trainer/grpo_trainer.py` (its default mode, `sequence_mask`, C = 3).
"""

from __future__ import annotations

from pydantic import Field

from policies.objectives.contracts import ShapedRows, Totals
from policies.objectives.mismatch_weights import sequence_sum, weighed
from policies.objectives.parts import Part, PartInfo, PartOptions, Shaped, Shaper, Tensor, exp_clamped

SOURCE = "TRL"
INFO = PartInfo(is_importance_weight=True)


class Config(PartOptions):
    seq_mask_cap: float = Field(3.0, ge=1)
    """A sequence with a larger weight is masked."""


def create(config: Config) -> Shaper:
    def apply(advantage_BT: Tensor, rows: ShapedRows, totals: Totals) -> Shaped:
        raw_BT = exp_clamped(sequence_sum(rows.lp_old_BT - rows.lp_roll_BT, rows.mask_BT))
        is_masked_BT = raw_BT > config.seq_mask_cap
        weight_BT = raw_BT.masked_fill(is_masked_BT, 0.0)
        return weighed(advantage_BT, weight_BT, "seq_mask", masked_frac=is_masked_BT)

    return Part(apply, frozenset({"lp_old", "lp_roll"}), zero_stays_zero=True)
