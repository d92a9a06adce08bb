"""HAPO's bounds: PPO's clip with a range for each token, lo * (1 - h) where h <= 0 and hi * (1 + h) where h > 0.

Symbols: h in [-1, 1] the token's score, noted by the shaper `hapo`: negative on tokens of low entropy, positive on
those of high entropy, 0 at the .8-quantile. lo, hi the base range, counted from 1. So a token that the policy was sure
of may fall further when it was bad (up to twice lo), and one that it hesitated at may rise further when it was good
(up to twice hi); the other bound stays.

Entropy: redistributes. Room to rise where entropy is high raises it there; room to fall on tokens of low entropy takes
away wrong certainties. Hazard: it hangs on the quantile of the score. With one update a step no bound acts.

Empty cases: h = 0 everywhere is PPO. A = 0 is never clipped and its loss is 0. Without scores it is an error.

Source: From Uniform to Heterogeneous, arXiv 2509.16591; starriver030515/HAPO `core_algos.py`, whose scores of tokens of
low entropy have the wrong sign (see the shaper).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from policies.objectives.contracts import ShapedRows
from policies.objectives.errors import ObjectiveError
from policies.objectives.parts import Part, PartInfo, PartOptions, Ratio, RatioRule, Tensor
from policies.objectives.ratio_rules import ppo

SOURCE = "arXiv 2509.16591"
SCORE = "hapo.score"  # what the shaper notes


def two_ranges(options: Mapping[str, Any]) -> str | None:
    """HAPO's released code has one range, for the bounds and for what counts as inside of them."""
    for side in ("low", "high"):
        if options[f"clip_{side}"] != options.get(f"hapo_{side}", options[f"clip_{side}"]):
            return "`clip_low, clip_high` and `hapo_low, hapo_high` are one range in HAPO: change both, or none."
    return None


INFO = PartInfo(idle_at_one_update=True, raises_entropy=("clip_high",), reads=(SCORE,), warn=two_ranges)


class Config(PartOptions):
    clip_low: float = Field(0.2, ge=0, le=1)
    """A bad token with score 0 may fall to 1 - clip_low of its probability."""
    clip_high: float = Field(0.2, ge=0)
    """A good token with score 0 may rise to 1 + clip_high of its probability."""
    dual_clip: float | None = None
    """A bad token that rises above this ratio stops counting; above 1 + 2 * clip_high; null: off."""

    @model_validator(mode="after")
    def _dual_clip_is_outside(self) -> Config:
        widest = 1 + 2 * self.clip_high
        if self.dual_clip is not None and self.dual_clip <= widest:
            raise ValueError(f"dual_clip {self.dual_clip:g} is inside the widest clip range; take more than {widest:g}")
        return self


def create(config: Config) -> RatioRule:
    def apply(advantage_BT: Tensor, rows: ShapedRows) -> Ratio:
        score_BT = rows.noted.get(SCORE)
        if score_BT is None:
            raise ObjectiveError(
                "`ratio: hapo` reads a score of every token, which the shaper of that name notes: add `shaper: hapo`"
            )
        low_BT, high_BT = bounds(score_BT.to(rows.lp_BT.dtype), config.clip_low, config.clip_high)
        return ppo.rule(advantage_BT, rows.lp_BT - rows.lp_old_BT, low_BT, high_BT, config.dual_clip)

    return Part(apply, frozenset({"lp_old"}), zero_stays_zero=True)


def bounds(score_BT: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Clip ranges [B, T] from scores in [-1, 1], below and above 1."""
    return low * (1 - score_BT.clamp(max=0)), high * (1 + score_BT.clamp(min=0))
