"""Mask by the geometric mean of a sequence's ratios: A' = A if exp(mean of d) is inside [lo, hi], else 0.

Symbols: d = lp_old - lp_roll, the trainer's log-prob at the start of the step minus the one that the sampler
reported, averaged over the policy's tokens of the sequence; lo, hi the bounds, inclusive. The mean does not grow with
length, so one bound fits answers of all lengths. It weighs nothing, it only drops sequences on which the two disagree
throughout: let it stand beside a weight, `mismatch: [tis, geo_mask]`.

Entropy: a small effect. Hazard: .999 and 1.001 are made for equal weights in two engines. With a sampler one
version behind nearly every sequence is outside: widen the bounds, or watch `geo_mask_masked_frac`.

Empty cases: equal log-probs, and a sequence without a token of the policy, are kept.

Source: SkyRL, sequence mask with the metric `geometric` (`off_policy_correction`), whose example for a sampler several
versions behind has .99 and 1.01. verl's geometric rejection (`rollout_corr_helper`) takes rejected tokens out of the
denominator too.
"""

from __future__ import annotations

from pydantic import Field

from policies.objectives.contracts import ShapedRows, Totals
from policies.objectives.mismatch_weights import masked, sequence_mean
from policies.objectives.parts import Part, PartOptions, Shaped, Shaper, Tensor, exp_clamped

SOURCE = "SkyRL"


class Config(PartOptions):
    geo_mask_low: float = Field(0.999, ge=0, le=1)
    """A sequence with a smaller mean ratio is masked."""
    geo_mask_high: float = Field(1.001, ge=1)
    """A sequence with a larger mean ratio is masked."""


def create(config: Config) -> Shaper:
    def apply(advantage_BT: Tensor, rows: ShapedRows, totals: Totals) -> Shaped:
        mean_BT = exp_clamped(sequence_mean(rows.lp_old_BT - rows.lp_roll_BT, rows.mask_BT))
        keep_BT = (mean_BT >= config.geo_mask_low) & (mean_BT <= config.geo_mask_high)
        return masked(advantage_BT, keep_BT, "geo_mask")

    return Part(apply, frozenset({"lp_old", "lp_roll"}), zero_stays_zero=True)
