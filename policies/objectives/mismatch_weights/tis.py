"""Truncated importance weights against the mismatch of sampler and trainer: A' = A * min(exp(d), C).

Symbols: d = lp_old - lp_roll, the trainer's log-prob at the start of the step minus the one that the sampler
reported; C the cap. The two differ even with equal weights (kernels, precision), more when the sampler is stale. A jump
in the logged mean, mean square, maximum or share at the cap precedes a collapse.

Entropy: a small effect; the cap takes weight mostly from rare tokens that the sampler wrote too seldom.

Empty cases: equal log-probs give the weight 1; `tis_cap: null` leaves the part out. d is clamped to +-20.

Source: "Your Efficient RL Framework Secretly Brings You Off-Policy RL Training" (2025); verl, OpenRLHF.
Token form, C = 2 (the literature has 1.5 to 5).
"""

from __future__ import annotations

from pydantic import Field

from policies.objectives.contracts import ShapedRows, Totals
from policies.objectives.mismatch_weights import weighed
from policies.objectives.parts import Part, PartInfo, PartOptions, Shaped, Shaper, Tensor, exp_clamped

SOURCE = "Your Efficient RL Framework Secretly Brings You Off-Policy RL Training (2025)"
INFO = PartInfo(is_importance_weight=True)


class Config(PartOptions):
    tis_cap: float | None = Field(2.0, ge=1)
    """Largest weight of a token; null: no weights."""


def create(config: Config) -> Shaper | None:
    if config.tis_cap is None:
        return None
    cap = config.tis_cap

    def apply(advantage_BT: Tensor, rows: ShapedRows, totals: Totals) -> Shaped:
        gap_BT = rows.lp_old_BT - rows.lp_roll_BT
        return weighed(advantage_BT, weigh(gap_BT, cap), "tis", capped_frac=exp_clamped(gap_BT) > cap)

    return Part(apply, frozenset({"lp_old", "lp_roll"}), zero_stays_zero=True)


def weigh(gap_BT: Tensor, cap: float) -> Tensor:
    return exp_clamped(gap_BT).clamp(max=cap)
