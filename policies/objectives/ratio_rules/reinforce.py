"""REINFORCE: c = 1, no ratio and no clip; the conventional loss of a token is -A * lp.

Right on-policy, that is with one update a step; with more, nothing notices that the samples have become stale.

Empty cases: A = 0 gives the loss 0.

Source: Williams 1992; for language models, arXiv 2402.14740.
"""

from __future__ import annotations

from policies.objectives.contracts import ShapedRows
from policies.objectives.parts import Part, PartInfo, PartOptions, Ratio, RatioRule, Tensor

SOURCE = "arXiv 2402.14740"
INFO = PartInfo(stale_samples="ignored", clips_freed_tokens=False)


Config = PartOptions


def create(config: Config) -> RatioRule:
    return Part(rule, zero_stays_zero=True)


def rule(advantage_BT: Tensor, rows: ShapedRows) -> Ratio:
    return Ratio(
        c_BT=advantage_BT.new_ones(advantage_BT.shape),
        value_BT=-advantage_BT * rows.lp_BT,
        clipped_BT=rows.mask_BT.new_zeros(rows.mask_BT.shape),
    )
