"""Clip-Cov: A' = 0 on a few tokens drawn at random among those with low < cov < high, A' = A on all others.

Symbols: cov = (A - mean A) * (lp - mean lp) of a token over the step (`token_covariance`). Of N tokens max(1,
floor(ratio * N)) are drawn, and never more than are eligible. They stay in the denominator of the loss.

Entropy: the few tokens with a large cov carry nearly all of its fall; leaving out some of them slows it, to no target.
The authors pair it with very wide clips (clip_low = clip_high = 1). Which ratio is right depends on the model: 2e-4 of
1e5 tokens are 20.

The released code draws in every mini-batch, from tokens that the ratio rule has not clipped. We draw once a step, at
its start, where nothing is clipped. What is drawn does not depend on the order of rows: tokens are numbered by
log-prob, advantage and position first. Tokens that are equal in all three stay in the order of their rows.

Empty cases: no eligible token leaves all advantages as they are; a ratio of 0 leaves the part out.

Source: The Entropy Mechanism of Reinforcement Learning for Reasoning Language Models, arXiv 2505.22617; checked
against PRIME-RL/Entropy-Mechanism-of-RL and verl `core_algos.py` (`compute_policy_loss_clip_cov`).
"""

from __future__ import annotations

import numpy as np
from pydantic import Field, model_validator

from policies.objectives.contracts import ShapedRows, SurveyResult, Totals
from policies.objectives.parts import PartInfo, PartOptions, PartState, Shaper, Tensor
from policies.objectives.shapers import surveyed
from policies.objectives.statistics import token_covariance

SOURCE = "arXiv 2505.22617"
INFO = PartInfo(
    differs="tokens are drawn once a step, from all of it; the released code: in every mini-batch, from unclipped ones"
)


class Config(PartOptions):
    clip_cov_ratio: float = Field(2e-4, ge=0, le=1)
    """Share of the step's tokens that are left out, at least one token; 0: off."""
    clip_cov_low: float = 1.0
    """A token is eligible whose covariance is above this, in units of advantage times nats."""
    clip_cov_high: float = 5.0
    """And below this."""

    @model_validator(mode="after")
    def _bounds_are_ordered(self) -> Config:
        if self.clip_cov_low >= self.clip_cov_high:
            raise ValueError(
                f"clip_cov_low {self.clip_cov_low:g} is not below clip_cov_high {self.clip_cov_high:g}: no token is "
                "eligible"
            )
        return self


def create(config: Config) -> Shaper | None:
    if config.clip_cov_ratio == 0:
        return None

    def survey(rows: ShapedRows, totals: Totals, memory: PartState) -> SurveyResult:
        covariance_BT = token_covariance(rows)
        is_inside_BT = (covariance_BT > config.clip_cov_low) & (covariance_BT < config.clip_cov_high)
        is_eligible_BT = is_inside_BT & rows.mask_BT
        num = max(1, int(config.clip_cov_ratio * totals.num_tokens))
        is_drawn_BT = draw(is_eligible_BT, rows, num, memory.rng)
        whole = max(totals.num_tokens, 1)
        return SurveyResult(
            tokens={"clip_cov.keep": (~is_drawn_BT).to(rows.advantage_BT.dtype)},
            log={
                "clip_cov_eligible_frac": int(is_eligible_BT.sum()) / whole,
                "clip_cov_frac": int(is_drawn_BT.sum()) / whole,
            },
        )

    return surveyed(survey, "clip_cov.keep", "lp_old")


def draw(is_eligible_BT: Tensor, rows: ShapedRows, num: int, rng: np.random.Generator) -> Tensor:
    """Draw so many of the eligible tokens, or all when there are fewer; bool [B, T]."""
    row_E, column_E = is_eligible_BT.nonzero(as_tuple=True)
    keys = (column_E, rows.advantage_BT[row_E, column_E], rows.lp_old_BT[row_E, column_E])
    order = np.lexsort([key.cpu().numpy() for key in keys])
    drawn = rng.permutation(order)[:num].tolist()
    is_drawn_BT = is_eligible_BT.new_zeros(is_eligible_BT.shape)
    is_drawn_BT[row_E[drawn], column_E[drawn]] = True
    return is_drawn_BT
