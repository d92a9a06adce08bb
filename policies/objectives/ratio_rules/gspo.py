"""GSPO, one ratio a sequence: c = s on all tokens of it, but 0 where A > 0 and s > 1 + hi, or A < 0 and s < 1 - lo.

Symbols: s = exp(mean of lp - lp_old over the policy's tokens of the sequence), the geometric mean of the token
ratios; lo, hi the clip range, counted from 1. It is tiny, 3e-4 and 4e-4: a mean over many tokens hardly moves. The
conventional loss of a sequence is -min(A * s, A * clip(s, 1 - lo, 1 + hi)), so the gradient at a token is -A * c / n:
use the aggregation `seq_mean_token_mean`. Where tokens have advantages of their own, the same s is clipped by their
signs: this is GSPO-token, whose gradient is that of the sequence form where A is one number. The mean log-ratio is cut
at 10 from above; a sequence beyond has c = 0, as a clamp has no slope.

Entropy: neutral by itself. About 15 % of all tokens are clipped in the paper's runs, far more than under PPO, which
is as it should be. Hazard: on answers of a few tokens s moves as much as a token's ratio does and nearly everything is
clipped: the bounds want to be as large as PPO's. With one update a step s is 1, and it is `reinforce`.

Empty cases: a sequence without a token of the policy has s = 1. A = 0 is never clipped and its loss is 0.

Source: Group Sequence Policy Optimization, arXiv 2507.18071, equations 5 to 7 and 14; verl `core_algos.py`, TRL.
"""

from __future__ import annotations

import math

from pydantic import Field

from policies.objectives.contracts import ShapedRows
from policies.objectives.parts import Part, PartInfo, PartOptions, Ratio, RatioRule, Tensor
from policies.objectives.ratio_rules import ppo

SOURCE = "arXiv 2507.18071"
INFO = PartInfo(idle_at_one_update=True, is_of_sequences=True)
MAX_MEAN_LOG_RATIO = 10.0


class Config(PartOptions):
    gspo_low: float = Field(3e-4, ge=0, le=1)
    """A bad sequence may fall to a ratio of 1 - gspo_low."""
    gspo_high: float = Field(4e-4, ge=0)
    """A good sequence may rise to a ratio of 1 + gspo_high."""


def create(config: Config) -> RatioRule:
    def apply(advantage_BT: Tensor, rows: ShapedRows) -> Ratio:
        # the value of a token is such that its mean over the sequence is the sequence's loss
        log_ratio_BT = (rows.lp_BT - rows.lp_old_BT).masked_fill(~rows.mask_BT, 0.0)
        mean_B1 = log_ratio_BT.sum(-1, keepdim=True) / rows.mask_BT.sum(-1, keepdim=True).clamp(min=1)
        mean_BT, cap = mean_B1.expand_as(advantage_BT), math.exp(MAX_MEAN_LOG_RATIO)
        return ppo.rule(advantage_BT, mean_BT, config.gspo_low, config.gspo_high, cap=cap)

    return Part(apply, frozenset({"lp_old"}), zero_stays_zero=True)
