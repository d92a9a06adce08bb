"""CE-GPPO, a bounded gradient on clipped tokens: c = rho inside PPO's clip, b_hi * (1 + hi) or b_lo * (1 - lo) beyond.

    A > 0 and rho > 1 + hi    c = b_hi * (1 + hi)
    A < 0 and rho < 1 - lo    c = b_lo * (1 - lo)
    A < 0 and rho > c_dual    c = 0
    else                      c = rho

Symbols: rho = exp(lp - lp_old); lo, hi the clip range, counted from 1; b_lo, b_hi what remains of the gradient at the
bound. Beyond the clip the conventional loss of a token is -A * b * (1 +- bound) / stopped(rho) * rho: its value does
not move with rho, its gradient does not vanish. b_lo = b_hi = 0 has the gradients of PPO. The paper takes b_lo = .75
(7B) or .5 (1.5B), b_hi = 1, clip .2/.2, dual clip 10, learning rate 1e-6.

Entropy, two-way by its strengths: b_hi lets promoted rare tokens rise on (up, against collapse), b_lo lets suppressed
tokens fall on (down, against explosion). Hazard: a large b_lo collapses. It acts beyond the clip only, so with one
update a step it is `reinforce`, and in several it changes nothing in the first.

Empty cases: A = 0 is never clipped and its loss is 0. lp - lp_old is clamped to +-20. `clip_frac` counts all tokens
beyond a bound.

Source: CE-GPPO: Coordinating Entropy via Gradient-Preserving Clipping Policy Optimization, arXiv 2509.20712;
Kwai-Klear/CE-GPPO `core_algos.py`.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from policies.objectives.contracts import ShapedRows
from policies.objectives.parts import Part, PartInfo, PartOptions, Ratio, RatioRule, Tensor, exp_clamped

SOURCE = "arXiv 2509.20712"
INFO = PartInfo(idle_at_one_update=True, raises_entropy=("clip_high",))


class Config(PartOptions):
    clip_low: float = Field(0.2, ge=0, le=1)
    """A bad token below 1 - clip_low of its probability is clipped."""
    clip_high: float = Field(0.2, ge=0)
    """A good token above 1 + clip_high of its probability is clipped."""
    dual_clip: float | None = 10.0
    """A bad token that rises above this ratio stops counting; above 1 + clip_high; null: off."""
    ce_gppo_low: float = Field(0.75, ge=0)
    """b_lo: what a clipped bad token keeps of the gradient at the bound; 0 as PPO; lowers entropy."""
    ce_gppo_high: float = Field(1.0, ge=0)
    """b_hi: what a clipped good token keeps of the gradient at the bound; 0 as PPO; raises entropy."""

    @model_validator(mode="after")
    def _dual_clip_is_outside(self) -> Config:
        if self.dual_clip is not None and self.dual_clip <= 1 + self.clip_high:
            raise ValueError(
                f"dual_clip {self.dual_clip:g} is inside the clip range; take more than {1 + self.clip_high:g}"
            )
        return self


def create(config: Config) -> RatioRule:
    def apply(advantage_BT: Tensor, rows: ShapedRows) -> Ratio:
        rho_BT = exp_clamped(rows.lp_BT - rows.lp_old_BT)
        rose_BT = (advantage_BT > 0) & (rho_BT > 1 + config.clip_high)
        fell_BT = (advantage_BT < 0) & (rho_BT < 1 - config.clip_low)
        c_BT = rho_BT.masked_fill(rose_BT, config.ce_gppo_high * (1 + config.clip_high))
        c_BT = c_BT.masked_fill(fell_BT, config.ce_gppo_low * (1 - config.clip_low))
        value_BT, clipped_BT = -advantage_BT * c_BT, rose_BT | fell_BT
        if config.dual_clip is not None:
            over_BT = (advantage_BT < 0) & (rho_BT > config.dual_clip)
            c_BT, clipped_BT = c_BT.masked_fill(over_BT, 0.0), clipped_BT | over_BT
            value_BT = value_BT.where(~over_BT, -advantage_BT * config.dual_clip)
        return Ratio(c_BT, value_BT, clipped_BT)

    return Part(apply, frozenset({"lp_old"}), zero_stays_zero=True)
