"""Covariance of a token: cov = (A - mean A) * (lp - mean lp), whose mean predicts how fast entropy falls.

Symbols: A the estimator's advantage of the token, lp its log-prob (nats) at the start of the step, both means over
all tokens that the policy wrote in the step. cov > 0: a likely token that is rewarded, or a rare one that is
punished; both sharpen the distribution. A few tokens with a huge cov carry nearly all of the fall.

The released code takes A and lp of the micro-batch. These are of the whole step at its start (objectives.md 2.3):
call it in a survey.

Empty cases: no valid token gives 0 everywhere; equal advantages, or equal log-probs, give 0 up to rounding.

Source: The Entropy Mechanism of Reinforcement Learning for Reasoning Language Models, arXiv 2505.22617; checked
against PRIME-RL/Entropy-Mechanism-of-RL and verl `core_algos.py` (`clip_cov`, `kl_cov`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from policies.objectives.contracts import ShapedRows

if TYPE_CHECKING:
    from torch import Tensor


def token_covariance(rows: ShapedRows) -> Tensor:
    """The covariance of each token of a whole step, [B, T], 0 off the mask."""
    deviations = _centred(rows.advantage_BT, rows.mask_BT) * _centred(rows.lp_old_BT, rows.mask_BT)
    return deviations.masked_fill(~rows.mask_BT, 0.0)


def _centred(value_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """The value minus its mean over valid tokens, [B, T]; the mean is exact enough not to hear of the row order."""
    total = value_BT.masked_fill(~mask_BT, 0.0).double().sum()
    mean = total / mask_BT.sum().clamp(min=1)
    return value_BT - mean.to(value_BT.dtype)
