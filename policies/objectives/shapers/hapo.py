"""HAPO's weight: A' = A * (1 + h) on tokens whose ratio speaks clearly for their kind, A' = A on all others.

Symbols: h in [-1, 1] scores how undecided the policy was at a token, compared with the whole step. With e = log H at
the start of the step and the pivot its .8-quantile (the nearest value),

    h = (e - pivot) / (largest e - pivot)     above the pivot: an undecided token, 0 to 1
    h = (e - pivot) / (pivot - smallest e)    at and below it: a decided one, -1 to 0

rho = exp(lp - lp_old). "Inside" is lo(h) / 2 below 1 to hi(h) / 2 above it, half of the bounds that HAPO's ratio rule
gives the token: lo(h) = low * (1 - h) for h <= 0, hi(h) = high * (1 + h) for h > 0, `low` and `high` otherwise.

    h > 0    outside: 1 + h, up to twice      inside: 1
    h <= 0   inside: 1 + h, down to nothing   outside: 1

It moves the force from decided tokens to undecided ones, entropy with it. One very small or very large H sets the scale
of a whole side, so it hears of outliers, of the quantile, and of an overlong penalty. The score is noted for the ratio
rule `hapo` under `hapo.score`. The authors divide deviations by their root mean square first, which cancels out.

Where we differ from the released code: it divides the negative scores by the signed minimum, which makes h >= 0
everywhere, so that no token is decided and the lower bound never widens; we keep the sign. It takes entropies of the
micro-batch under the present policy; we take those of the step, at its start.

Empty cases: no token above the pivot, or none below it, leaves that side at 0. H is taken as at least 1e-8.

Source: From Uniform to Heterogeneous, arXiv 2509.16591; checked against starriver030515/HAPO `core_algos.py`
(`compute_entropy_h`, `ada_advantage`), with the correction above. (Several other methods are called HAPO.)
"""

from __future__ import annotations

from pydantic import Field

from policies.objectives.contracts import ShapedRows, SurveyResult, Totals
from policies.objectives.parts import (
    Part,
    PartInfo,
    PartOptions,
    PartState,
    Shaped,
    Shaper,
    Tensor,
    exp_clamped,
)
from policies.objectives.ratio_rules.hapo import SCORE, bounds
from policies.objectives.statistics import quantile, start_entropy

SOURCE = "arXiv 2509.16591"
INFO = PartInfo(notes=(SCORE,))
MIN_ENTROPY = 1e-8  # nats


class Config(PartOptions):
    hapo_quantile: float = Field(0.8, ge=0, le=1)
    """Tokens above this quantile of the step's entropies count as undecided."""
    hapo_low: float = Field(0.2, ge=0)
    """Base bound below 1; half of the token's own counts as inside. As the ratio rule's `clip_low`."""
    hapo_high: float = Field(0.2, ge=0)
    """Base bound above 1; half of the token's own counts as inside. As the ratio rule's `clip_high`."""


def create(config: Config) -> Shaper:
    def survey(rows: ShapedRows, totals: Totals, memory: PartState) -> SurveyResult:
        score_BT = score(start_entropy(rows, "hapo"), rows.mask_BT, config.hapo_quantile)
        return SurveyResult(tokens={SCORE: score_BT})

    def apply(advantage_BT: Tensor, rows: ShapedRows, totals: Totals) -> Shaped:
        log_ratio_BT = rows.lp_BT - rows.lp_old_BT
        weight_BT = weigh(rows.noted[SCORE], log_ratio_BT, config.hapo_low, config.hapo_high)
        return Shaped(advantage_BT * weight_BT, {"hapo_weight_mean": weight_BT})

    return Part(apply, frozenset({"lp_old", "old_entropy"}), zero_stays_zero=True, survey=survey)


def score(entropy_BT: Tensor, mask_BT: Tensor, share: float) -> Tensor:
    """The score h [B, T] of a whole step's tokens, 0 off the mask."""
    if not bool(mask_BT.any()):
        return entropy_BT.new_zeros(entropy_BT.shape)
    log_BT = entropy_BT.clamp(min=MIN_ENTROPY).log()
    deviation_BT = (log_BT - quantile(log_BT[mask_BT], share, "nearest")).masked_fill(~mask_BT, 0.0)
    above, below = float(deviation_BT.max()), float(-deviation_BT.min())
    return deviation_BT.clamp(min=0) / (above or 1.0) + deviation_BT.clamp(max=0) / (below or 1.0)


def weigh(score_BT: Tensor, log_ratio_BT: Tensor, low: float, high: float) -> Tensor:
    rho_BT = exp_clamped(log_ratio_BT)
    low_BT, high_BT = bounds(score_BT, low, high)
    is_inside_BT = (rho_BT > 1 - low_BT / 2) & (rho_BT < 1 + high_BT / 2)
    return 1 + score_BT.masked_fill((score_BT > 0) == is_inside_BT, 0.0)
