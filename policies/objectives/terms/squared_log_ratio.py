"""Squared log-ratio to the sampler: adds c * (lp - lp_roll)^2 to the loss, so the extra W is -2 c * (lp - lp_roll).

Symbols: lp_roll the log-prob that the sampler reported; c the coefficient. The companion of `ratio: dppo`: its mask
stops tokens that moved too far, and only this term leads them back. It acts on all tokens, also on those that are
masked or have no advantage, and halves of the square are the k2 estimate of the KL to the sampler: c stands for a KL
of coefficient 2 c.

Entropy: neutral; it slows whatever moves the policy away from the sampler, and it pulls most on rare tokens, whose
log-probs move most. At equal log-probs it does nothing.

Empty cases: a coefficient of 0 that no controller moves leaves the part out. lp - lp_roll is clamped to +-20.

Source: arXiv 2602.04879; prime-rl `src/prime_rl/trainer/rl/loss.py`, c = 1e-3.
"""

from __future__ import annotations

from pydantic import Field

from policies.objectives.contracts import ShapedRows, Totals
from policies.objectives.parts import Added, Part, PartOptions, Term, clamped

SOURCE = "arXiv 2602.04879"


class Config(PartOptions):
    squared_log_ratio: float = Field(0.0, ge=0)
    """The coefficient c, per squared nat; 1e-3 in prime-rl; 0: off."""


def create(config: Config) -> Term | None:
    if config.is_off("squared_log_ratio"):
        return None

    def apply(rows: ShapedRows, totals: Totals) -> Added:
        d_BT = clamped(rows.lp_BT - rows.lp_roll_BT)
        return Added(config.squared_log_ratio * d_BT**2, w_BT=-2 * config.squared_log_ratio * d_BT)

    return Part(apply, frozenset({"lp_roll"}))
