"""The plain ratio: c = rho, never clipped; the conventional loss of a token is -A * rho.

Symbols: rho = exp(lp - lp_old). Its gradient is that of importance sampling from the start of the step: right in the
mean, and of unbounded variance. Nothing here holds the policy near the start of the step, so something else has to:
KL-Cov's penalty on the tokens that move entropy most, or DisCO's constraint, whose ratio score is a mean of rho.

Entropy: neither clip acts, so rare good tokens rise freely (up) and bad tokens fall freely (down). With one update a
step rho is 1, and it is `reinforce`.

Empty cases: A = 0 gives the loss 0. lp - lp_old is clamped to +-20.

Source: The Entropy Mechanism of RL for Reasoning Language Models, arXiv 2505.22617 (KL-Cov, verl `core_algos.py`);
the surrogate without a trust region is that of TRPO, 1502.05477, equation 14.
"""

from __future__ import annotations

from policies.objectives.contracts import ShapedRows
from policies.objectives.parts import Part, PartInfo, PartOptions, Ratio, RatioRule, Tensor, exp_clamped

SOURCE = "arXiv 2505.22617"
INFO = PartInfo(stale_samples="weighed", clips_freed_tokens=False)


Config = PartOptions


def create(config: Config) -> RatioRule:
    return Part(rule, frozenset({"lp_old"}), zero_stays_zero=True)


def rule(advantage_BT: Tensor, rows: ShapedRows) -> Ratio:
    rho_BT = exp_clamped(rows.lp_BT - rows.lp_old_BT)
    return Ratio(rho_BT, -advantage_BT * rho_BT, clipped_BT=rho_BT < 0)  # a ratio never is
