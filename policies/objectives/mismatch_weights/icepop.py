"""IcePop: A' = A * exp(d) where exp(d) is inside [lo, hi], else 0: a token that the two disagree on is dropped.

Symbols: d = lp_old - lp_roll, the trainer's log-prob at the start of the step minus the one that the sampler
reported; lo, hi the bounds of the weight, inclusive: .5 and 5 in OpenRLHF (ours), .5 and 2 in verl. Where `tis` keeps a
strange token at the cap, this one takes it for noise and masks it, on both sides. Engines that route differently
(mixtures of experts) make such tokens.

Entropy: a small effect; it masks mostly rare tokens. Hazard: with a stale sampler the tokens that the policy has just
learnt are the ones it drops; watch `icepop_masked_frac`. It replaces `tis`: both would count the mismatch twice.

Empty cases: equal log-probs give the weight 1. d is clamped to +-20.

Source: IcePop of Ant Group (2025), in "Every Step Evolves", arXiv 2510.18855; OpenRLHF `openrlhf/models/loss.py`, verl
`rollout_corr_helper`.
"""

from __future__ import annotations

from pydantic import Field

from policies.objectives.contracts import ShapedRows, Totals
from policies.objectives.mismatch_weights import weighed
from policies.objectives.parts import Part, PartInfo, PartOptions, Shaped, Shaper, Tensor, exp_clamped

SOURCE = "arXiv 2510.18855"
INFO = PartInfo(is_importance_weight=True)


class Config(PartOptions):
    icepop_low: float = Field(0.5, ge=0, le=1)
    """A token with a smaller weight is masked."""
    icepop_high: float = Field(5.0, ge=1)
    """A token with a larger weight is masked."""


def create(config: Config) -> Shaper:
    def apply(advantage_BT: Tensor, rows: ShapedRows, totals: Totals) -> Shaped:
        ratio_BT = exp_clamped(rows.lp_old_BT - rows.lp_roll_BT)
        is_outside_BT = (ratio_BT < config.icepop_low) | (ratio_BT > config.icepop_high)
        weight_BT = ratio_BT.masked_fill(is_outside_BT, 0.0)
        return weighed(advantage_BT, weight_BT, "icepop", masked_frac=weight_BT == 0)

    return Part(apply, frozenset({"lp_old", "lp_roll"}), zero_stays_zero=True)
