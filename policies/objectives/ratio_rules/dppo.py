"""DPPO with binary total variation: c = rho, but 0 where A > 0 and p - q > hi, or A < 0 and p - q < -lo.

Symbols: p = exp(lp) under the policy being updated, q = exp(lp_roll) under the sampler, rho = p / q; lo, hi how far
the probability of a token may move, absolute. The conventional loss of a token is -A * rho, and 0 where it is masked.

A trust region on the change of probability instead of the ratio: |p - q| is the total variation between the two
policies seen as "this token or another one". PPO stops a token that goes from .001 to .002 (rho = 2) and lets one go
from .9 to .99; here a rare token may move freely in ratio, and a likely one may not move far.

The anchor is the sampler itself, so no pass for lp_old is needed, and no mismatch weight is due: the ratio covers
staleness too. It needs good sampler log-probs, of the distribution really sampled from. The companion term
`squared_log_ratio` holds all tokens near the sampler.

Entropy: falls more slowly than under PPO, as rare good tokens are not stopped. Hazard: the ratio of a rare token is not
bounded by anything (.02 to .2 gives c = 10). A mask has no gradient to lead back. At the exact bound we keep the token.

Empty cases: A = 0 is never clipped and its loss is 0. lp - lp_roll is clamped to +-20.

Source: arXiv 2602.04879; prime-rl `src/prime_rl/trainer/rl/loss.py`, whose default loss it is.
"""

from __future__ import annotations

from pydantic import Field

from policies.objectives.contracts import ShapedRows
from policies.objectives.parts import Part, PartInfo, PartOptions, Ratio, RatioRule, Tensor, exp_clamped

SOURCE = "arXiv 2602.04879"
INFO = PartInfo(anchor="lp_roll")


class Config(PartOptions):
    dppo_low: float = Field(0.2, ge=0, le=1)
    """A bad token may lose this much probability."""
    dppo_high: float = Field(0.2, ge=0, le=1)
    """A good token may gain this much probability."""


def create(config: Config) -> RatioRule:
    def apply(advantage_BT: Tensor, rows: ShapedRows) -> Ratio:
        moved_BT = rows.lp_BT.exp() - rows.lp_roll_BT.exp()
        rose_BT = (advantage_BT > 0) & (moved_BT > config.dppo_high)
        fell_BT = (advantage_BT < 0) & (moved_BT < -config.dppo_low)
        c_BT = exp_clamped(rows.lp_BT - rows.lp_roll_BT).masked_fill(rose_BT | fell_BT, 0.0)
        return Ratio(c_BT, -advantage_BT * c_BT, rose_BT | fell_BT)

    return Part(apply, frozenset({"lp_roll"}), zero_stays_zero=True)
