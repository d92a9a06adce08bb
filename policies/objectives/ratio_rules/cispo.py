"""CISPO, clip the weight and never the gradient: c = clamp(rho, lo, hi).

Symbols: rho = exp(lp - lp_old); lo, hi its bounds, as absolute numbers. The conventional loss of a token is
-A * stopped(clamp(rho, lo, hi)) * lp: REINFORCE under a bounded importance weight. Where PPO's clip drops a token,
this one keeps it at the weight of the bound, so rare and decisive tokens ("wait", "however") go on learning in all
updates of a step. `clip_frac` counts the tokens whose weight stands at a bound.

Conventions for the bounds differ. The paper describes an upper limit only; TRL takes it as an absolute number, 5
(after ScaleRL); verl takes offsets from 1 (1 - lo, 1 + hi); SkyRL's offsets 1 and 4 are [0, 5], which are ours.

Entropy: falls more slowly than under PPO, as promoted rare tokens are not stopped. Hazard: a high cap lets W grow
fivefold on a token that has already moved far. With one update a step rho is 1, and it is `reinforce`.

Empty cases: A = 0 gives the loss 0. lp - lp_old is clamped to +-20.

Source: MiniMax-M1, arXiv 2506.13585, equations 4 and 5; the default bound: ScaleRL, 2510.13786; TRL, SkyRL, verl.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from policies.objectives.contracts import ShapedRows
from policies.objectives.parts import Part, PartInfo, PartOptions, Ratio, RatioRule, Tensor, exp_clamped

SOURCE = "arXiv 2506.13585"
INFO = PartInfo(idle_at_one_update=True)


class Config(PartOptions):
    cispo_low: float = Field(0.0, ge=0, le=1)
    """Smallest weight of a token, a ratio; 0: no lower bound."""
    cispo_high: float = Field(5.0, ge=1)
    """Largest weight of a token, a ratio."""

    @model_validator(mode="after")
    def _bounds_are_ordered(self) -> Config:
        if self.cispo_low == self.cispo_high:
            raise ValueError("cispo_low and cispo_high are both 1, so that no ratio counts: take `ratio: reinforce`")
        return self


def create(config: Config) -> RatioRule:
    def apply(advantage_BT: Tensor, rows: ShapedRows) -> Ratio:
        log_ratio_BT = rows.lp_BT - rows.lp_old_BT
        return rule(advantage_BT, log_ratio_BT, rows.lp_BT, config.cispo_low, config.cispo_high)

    return Part(apply, frozenset({"lp_old"}), zero_stays_zero=True)


def rule(advantage_BT: Tensor, log_ratio_BT: Tensor, lp_BT: Tensor, low: float, high: float) -> Ratio:
    """Apply it to shaped advantages, lp - lp_old (where the paper stops the gradient) and lp, all [B, T]."""
    rho_BT = exp_clamped(log_ratio_BT)
    c_BT = rho_BT.clamp(low, high)
    return Ratio(c_BT, -advantage_BT * c_BT * lp_BT, c_BT != rho_BT)
