"""PPO's clip: c = rho, but 0 where A > 0 and rho > 1 + hi, or A < 0 and rho < 1 - lo.

Symbols: rho = exp(lp - lp_old); lo, hi the clip range. The conventional loss of a token is
-min(A * rho, A * clip(rho, 1 - lo, 1 + hi)). hi > lo ("clip-higher", DAPO) lets rare tokens rise further.

Dual clip: for A < 0 also c = 0 where rho > c_dual, and the loss is at most -A * c_dual. It bounds the push on a
bad token that has become much likelier.

The upper clip lowers entropy and the lower clip raises it (arXiv 2509.26114). With one update a step rho is 1
and nothing is clipped. At the exact bound the gradient is undefined; we keep the token.

Empty cases: A = 0 is never clipped and its loss is 0. lp - lp_old is clamped to +-20.

Source: Proximal Policy Optimization Algorithms, arXiv 1707.06347, equation 7; clip-higher: DAPO, 2503.14476;
dual clip: 1912.09729, equation 5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from policies.objectives.contracts import Rows
from policies.objectives.parts import MAX_LOG_RATIO, Part, PartOptions, Ratio, RatioRule

if TYPE_CHECKING:
    from torch import Tensor

SOURCE = "arXiv 1707.06347"


class Config(PartOptions):
    """The clip range, counted from 1."""

    clip_low: float = Field(0.2, ge=0, le=1)
    """A bad token may fall to 1 - clip_low of its probability."""
    clip_high: float = Field(0.28, ge=0)
    """A good token may rise to 1 + clip_high of its probability."""
    dual_clip: float | None = None
    """A bad token that rises above this ratio stops counting; above 1 + clip_high; 3 in verl; null: off."""

    @model_validator(mode="after")
    def _dual_clip_is_outside(self) -> Config:
        if self.dual_clip is not None and self.dual_clip <= 1 + self.clip_high:
            raise ValueError(
                f"dual_clip {self.dual_clip:g} is inside the clip range; take more than {1 + self.clip_high:g}"
            )
        return self


def create(config: Config) -> RatioRule:
    """Make the rule."""

    def apply(advantage_BT: Tensor, rows: Rows) -> Ratio:
        log_ratio_BT = rows.lp_BT - rows.lp_old_BT
        return rule(advantage_BT, log_ratio_BT, config.clip_low, config.clip_high, config.dual_clip)

    return Part(apply, frozenset({"lp_old"}), zero_stays_zero=True)


def rule(advantage_BT: Tensor, log_ratio_BT: Tensor, low: float, high: float, dual: float | None) -> Ratio:
    """Apply it to shaped advantages and lp - lp_old, both [B, T]."""
    rho_BT = log_ratio_BT.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    is_good_BT, is_bad_BT = advantage_BT > 0, advantage_BT < 0
    clipped_BT = (is_good_BT & (rho_BT > 1 + high)) | (is_bad_BT & (rho_BT < 1 - low))
    bounded_BT = advantage_BT * rho_BT.clamp(1 - low, 1 + high)
    value_BT = -(advantage_BT * rho_BT).minimum(bounded_BT)
    if dual is not None:
        clipped_BT = clipped_BT | (is_bad_BT & (rho_BT > dual))
        value_BT = value_BT.where(~is_bad_BT, value_BT.minimum(-advantage_BT * dual))
    return Ratio(rho_BT.masked_fill(clipped_BT, 0.0), value_BT, clipped_BT)
