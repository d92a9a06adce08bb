"""PPO's clip: c = rho, but 0 where A > 0 and rho > 1 + hi, or A < 0 and rho < 1 - lo.

Symbols: rho = exp(lp - lp_old); lo, hi the clip range. The conventional loss of a token is
-min(A * rho, A * clip(rho, 1 - lo, 1 + hi)). hi > lo ("clip-higher", DAPO) lets rare tokens rise further.

Dual clip: for A < 0 also c = 0 where rho > c_dual, and the loss is at most -A * c_dual: the push on a bad token that
has become much likelier is bounded. `ratio_cap` is an outer clamp: rho is cut at it on every branch, and what is cut
has c = 0 (MAI-Thinking-1 holds rho in [0, 50]). Tokens that a survey notes as `unclipped` (Lp-Reg protects some) are
never clipped: c = rho, and their loss is -A * rho.

Entropy: the upper clip stops rare tokens from being promoted (at p = .01 a step is worth .002 at most) and lowers it;
the lower clip stops tokens from being suppressed and raises it (arXiv 2509.26114). With one update a step rho is 1
and nothing is clipped. At the exact bound the gradient is undefined; we keep the token.

Empty cases: A = 0 is never clipped and its loss is 0. lp - lp_old is clamped to +-20.

Source: Proximal Policy Optimization Algorithms, arXiv 1707.06347, equation 7; clip-higher: DAPO, 2503.14476;
dual clip: 1912.09729, equation 5.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from policies.objectives.contracts import ShapedRows
from policies.objectives.parts import Part, PartInfo, PartOptions, Ratio, RatioRule, Tensor, exp_clamped

SOURCE = "arXiv 1707.06347"
INFO = PartInfo(raises_entropy=("clip_high",), clips_freed_tokens=False)
FREE = "unclipped"  # what a survey notes of tokens that are never clipped; not 0 on them


class Config(PartOptions):
    clip_low: float = Field(0.2, ge=0, le=1)
    """A bad token may fall to 1 - clip_low of its probability."""
    clip_high: float = Field(0.28, ge=0)
    """A good token may rise to 1 + clip_high of its probability."""
    dual_clip: float | None = None
    """A bad token that rises above this ratio stops counting; above 1 + clip_high; 3 in verl; null: off."""
    ratio_cap: float | None = None
    """Any token that rises above this ratio stops counting; above 1 + clip_high; null: off."""

    @model_validator(mode="after")
    def _outer_bounds_are_outside(self) -> Config:
        for name in ("dual_clip", "ratio_cap"):
            bound = getattr(self, name)
            if bound is not None and bound <= 1 + self.clip_high:
                raise ValueError(f"{name} {bound:g} is inside the clip range; take more than {1 + self.clip_high:g}")
        return self


def create(config: Config) -> RatioRule:
    def apply(advantage_BT: Tensor, rows: ShapedRows) -> Ratio:
        return rule(
            advantage_BT,
            rows.lp_BT - rows.lp_old_BT,
            config.clip_low,
            config.clip_high,
            config.dual_clip,
            config.ratio_cap,
            rows.noted.get(FREE),
        )

    return Part(apply, frozenset({"lp_old"}), zero_stays_zero=True)


def rule(
    advantage_BT: Tensor,
    log_ratio_BT: Tensor,
    low: float | Tensor,
    high: float | Tensor,
    dual: float | None = None,
    cap: float | None = None,
    free_BT: Tensor | None = None,
) -> Ratio:
    """Apply it to shaped advantages and lp - lp_old, both [B, T]; bounds of each token, [B, T], will do as well."""
    uncut_BT = exp_clamped(log_ratio_BT)
    rho_BT = uncut_BT if cap is None else uncut_BT.clamp(max=cap)
    is_good_BT, is_bad_BT = advantage_BT > 0, advantage_BT < 0
    clipped_BT = (is_good_BT & (rho_BT > 1 + high)) | (is_bad_BT & (rho_BT < 1 - low))
    free_value_BT = -advantage_BT * rho_BT
    value_BT = free_value_BT.maximum(-advantage_BT * rho_BT.clamp(min=1 - low).clamp(max=1 + high))
    if dual is not None:
        clipped_BT = clipped_BT | (is_bad_BT & (rho_BT > dual))
        value_BT = value_BT.where(~is_bad_BT, value_BT.minimum(-advantage_BT * dual))
    if free_BT is not None:
        clipped_BT = clipped_BT & (free_BT == 0)
        value_BT = value_BT.where(free_BT == 0, free_value_BT)
    clipped_BT = clipped_BT | ((uncut_BT > rho_BT) & (advantage_BT != 0))
    return Ratio(rho_BT.masked_fill(clipped_BT, 0.0), value_BT, clipped_BT)
