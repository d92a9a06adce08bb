"""EntroPIC: on tokens with p > threshold adds -alpha * rho * |A| to the loss, so the extra W is alpha * rho * |A|.

Symbols: p = exp(lp) and rho = exp(lp - lp_old) of the sampled token under the policy being updated; A the estimator's
advantage, without mismatch weights; alpha the coefficient, of either sign, moved by a controller (`pi`).

Entropy: two-way, controlled. alpha > 0 strengthens likely tokens, whether they were good or bad (entropy down): good
ones weigh 1 + alpha, bad ones 1 - alpha. alpha < 0 weakens them (entropy up). Hazards: it has no force on solved groups
(A = 0). rho is not clipped here. The controller winds up where the target cannot be reached; ours is guarded. At
|alpha| = 1 one sign of advantage is silenced on likely tokens.

Where ours differs: alpha is set once a step and not once a micro-batch. And the term is weighed like the policy loss,
so tokens that are not selected stay in its denominator; the released code takes the mean over the selected ones, which
is stronger by one over their share.

Empty cases: alpha = 0, A = 0, or no token above the threshold give 0. alpha = 0 does not leave the part out, for a
controller passes through it. lp - lp_old is clamped to +-20.

Source: EntroPIC, arXiv 2511.15248; checked against yk7333/EntroPIC `core_algos.py` (`compute_policy_loss_entropic`),
which has the threshold too (`high_prob_thresh = 0.95`).
"""

from __future__ import annotations

import math

from pydantic import Field

from policies.objectives.contracts import ShapedRows, Totals
from policies.objectives.parts import Added, Part, PartInfo, PartOptions, Tensor, Term, exp_clamped

SOURCE = "arXiv 2511.15248"
INFO = PartInfo(
    missing="the term is weighed like the policy loss; the released code takes its mean over the selected tokens, "
    "which is stronger by one over their share, so its gains do not carry over",
    knob="entropic_alpha",
    lowers_entropy=True,
)


class Config(PartOptions):
    entropic_alpha: float = 0.0
    """The coefficient alpha: the fixed value, or the controller's start; above 0 it lowers entropy."""
    entropic_threshold: float = Field(0.95, gt=0, lt=1)
    """Tokens above this probability are strengthened or weakened."""


def create(config: Config) -> Term:
    threshold = math.log(config.entropic_threshold)

    def apply(rows: ShapedRows, totals: Totals) -> Added:
        is_likely_BT = (rows.lp_BT > threshold).to(rows.lp_BT.dtype)
        w_BT = extra(rows.advantage_BT, rows.lp_BT - rows.lp_old_BT, config.entropic_alpha) * is_likely_BT
        return Added(-w_BT, w_BT=w_BT, means={"entropic_frac": is_likely_BT})

    return Part(apply, frozenset({"lp_old"}), zero_stays_zero=True)


def extra(advantage_BT: Tensor, log_ratio_BT: Tensor, alpha: float) -> Tensor:
    """Extra W of likely tokens from A and lp - lp_old, [B, T] all; the term's value is minus that."""
    return alpha * exp_clamped(log_ratio_BT) * advantage_BT.abs()
