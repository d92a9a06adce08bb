"""Entropy from the sampled tokens alone: their mean surprisal (objectives.md 12.1).

    surprisal      mean of -lp_roll    unbiased for the sampler's entropy where no top-p or top-k cut it; noisy
    surprisal_iw   mean of -w * lp     w = exp(lp - lp_roll): corrects samples that other weights wrote

Symbols: lp the log-prob of the sampled token at the start of the step, lp_roll the sampler's. With w the expectation is
the entropy of the learner's distribution, token by token and given what came before; w is not capped, and not divided
by its mean. The first is free; the second needs lp of all rows of a step, silent ones too, so it costs the pass without
gradient that some objectives make anyway.

Empty cases: an arm without tokens has no entry; lp - lp_roll is clamped to +-20.

Source: importance sampling; read so by MAI-Thinking-1 (2026), known from descriptions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from policies.objectives.contracts import ShapedRows, Totals
from policies.objectives.parts import MAX_LOG_RATIO

if TYPE_CHECKING:
    from torch import Tensor


def weighted(lp_BT: Tensor, lp_roll_BT: Tensor) -> Tensor:
    """-w * lp of each token [B, T], nats."""
    return -(lp_BT - lp_roll_BT).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp() * lp_BT


def by_arm(rows: ShapedRows, totals: Totals) -> dict[str, tuple[float, float]]:
    """Sum of -w * lp and number of tokens, by the name of the arm."""
    assert rows.arm_B is not None, "the learner gives it"
    mask_BT = rows.mask_BT.double()
    per_row_B2 = mask_BT.new_zeros(len(mask_BT), 2)
    per_row_B2[:, 0] = (weighted(rows.lp_old_BT, rows.lp_roll_BT).double() * mask_BT).sum(-1)
    per_row_B2[:, 1] = mask_BT.sum(-1)
    per_arm_K2 = mask_BT.new_zeros(len(totals.arms), 2).index_add(0, rows.arm_B, per_row_B2)
    found = zip(totals.arms, per_arm_K2.tolist(), strict=True)
    return {arm: (total, count) for arm, (total, count) in found if count}
