"""SAPO, a smooth gate instead of a clip: c = 4 * rho * q * (1 - q), q = sigmoid(tau * (rho - 1)).

Symbols: rho = exp(lp - lp_old); tau the sharpness of the gate, one for good tokens (A > 0) and one for bad ones. The
conventional loss of a token is -A * (4 / tau) * q. At rho = 1 the gate is open, c = 1 whatever tau is; it closes
smoothly on both sides: with tau = 1, c is .47 at rho = .5, at most 1.57 (near rho = 2), 1.26 at 3 and .16 at 6. A
larger tau for bad tokens fades them faster: pushing a token down raises all the others, which is the noisier direction.

Entropy: falls more slowly than under PPO. Hazard: with tau near 1 the gate is wide (at twice its probability a good
token counts more than at first), so it holds the policy less than a clip of .2 does. With one update a step rho is 1,
and it is `reinforce`.

Empty cases: A = 0 gives the loss 0. lp - lp_old is clamped to +-20. Nothing counts as clipped.

Source: Soft Adaptive Policy Optimization, arXiv 2511.20347; TRL, verl `core_algos.py`.
"""

from __future__ import annotations

from pydantic import Field

from policies.objectives.contracts import ShapedRows
from policies.objectives.parts import Part, PartInfo, PartOptions, Ratio, RatioRule, Tensor, exp_clamped

SOURCE = "arXiv 2511.20347"
INFO = PartInfo(idle_at_one_update=True)


class Config(PartOptions):
    sapo_tau_good: float = Field(1.0, gt=0)
    """Of tokens with a positive advantage: sharpness, one over a difference of ratios."""
    sapo_tau_bad: float = Field(1.05, gt=0)
    """Of tokens with a negative advantage; above the other: they fade faster."""


def create(config: Config) -> RatioRule:
    def apply(advantage_BT: Tensor, rows: ShapedRows) -> Ratio:
        rho_BT = exp_clamped(rows.lp_BT - rows.lp_old_BT)
        bad_BT = rho_BT.new_full(rho_BT.shape, config.sapo_tau_bad)
        tau_BT = bad_BT.masked_fill(advantage_BT > 0, config.sapo_tau_good)
        gate_BT = (tau_BT * (rho_BT - 1)).sigmoid()
        c_BT = 4 * rho_BT * gate_BT * (1 - gate_BT)
        value_BT = -advantage_BT * 4 / tau_BT * gate_BT
        return Ratio(c_BT, value_BT, clipped_BT=rho_BT < 0)  # a ratio never is

    return Part(apply, frozenset({"lp_old"}), zero_stays_zero=True)
