"""What every objective tells about a step, as sums that add over micro-batches and ranks (objectives.md 9.4).

clip_frac, clip_high_frac, clip_low_frac   tokens whose ratio was clipped: all, above and below
advantage_abs                              of the estimator, before any shaper; without rows that bring their own
sampler_gap_mean, sampler_gap_max          |lp_old - lp_roll|
sampler_kl                                 an estimate of KL(sampler | trainer), exp(d) - d - 1: never negative
force_<part>                               the part's share of the L1 norms that make up W
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from environments.user_code import short_name
from policies.objectives.contracts import Batch, ShapedRows, of_estimator
from policies.objectives.parts import Added, Ratio, clamped

if TYPE_CHECKING:
    from torch import Tensor


KNOWN_OF_SILENT = (
    "clip_frac",
    "clip_high_frac",
    "clip_low_frac",
    "advantage_abs",
)  # 0 where the advantage is
OF_ESTIMATOR = ("advantage_abs",)  # means over the tokens whose advantage is the estimator's


def of_tokens(rows: ShapedRows, shaped_BT: Tensor, ratio: Ratio) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Values of each token to be averaged [B, T], and those whose largest is kept. `shaped_BT`: what the rule saw."""
    gap_BT = clamped(rows.lp_old_BT - rows.lp_roll_BT)
    means = {
        "clip_frac": ratio.clipped_BT.to(gap_BT.dtype),
        "clip_high_frac": (ratio.clipped_BT & (shaped_BT > 0)).to(gap_BT.dtype),
        "clip_low_frac": (ratio.clipped_BT & (shaped_BT < 0)).to(gap_BT.dtype),
        "advantage_abs": rows.advantage_BT.abs(),
        "sampler_gap_mean": gap_BT.abs(),
        "sampler_kl": gap_BT.expm1() - gap_BT,
    }
    return means, {"sampler_gap_max": gap_BT.abs()}


def covariances(batch: Batch) -> dict[str, tuple[float, float]]:
    """The covariance of the estimator's advantage and the sampler's log-prob, (sum, tokens) by arm; "" for all.

    Its mean predicts the fall of entropy (arXiv 2505.22617). Means are those of the arm's own tokens, without rows that
    bring an advantage of their own.
    """
    of_BT = of_estimator(batch)
    arm_BT = batch.arm_B[:, None].expand_as(of_BT)
    found = {"": _covariance(batch, of_BT)}
    for number, arm in enumerate(batch.arms):
        found[arm] = _covariance(batch, of_BT & (arm_BT == number))
    return found


def _covariance(batch: Batch, of_BT: Tensor) -> tuple[float, float]:
    advantage_N, lp_N = batch.advantage_BT[of_BT].double(), batch.lp_roll_BT[of_BT].double()
    if not len(lp_N):
        return 0.0, 0.0
    return float(((advantage_N - advantage_N.mean()) * (lp_N - lp_N.mean())).sum()), float(len(lp_N))


def forces(
    shaped: Mapping[str, Tensor], ratio: Ratio, added: Mapping[str, Added], policy_BT: Tensor
) -> dict[str, float]:
    """The L1 norm of what each part adds to W; of a shaper what it changes, under the ratio rule's coefficient.

    `shaped`: the advantages after the estimator and after every shaper, in order.
    """
    weight_BT = ratio.c_BT * policy_BT
    before: Tensor | None = None
    norms: dict[str, Tensor] = {}
    for name, after in shaped.items():
        change = after if before is None else after - before
        norms[name], before = (change * weight_BT).abs().sum(), after
    for name, one in added.items():
        if one.w_BT is not None:
            norms[name] = (one.w_BT * policy_BT).abs().sum()
    return dict(zip(norms, torch.stack(list(norms.values())).tolist(), strict=True))


def shares(norms: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Each part's share of the whole, as (sum, count)."""
    whole = sum(norms.values())
    return {f"force_{short_name(name)}": (norm, whole) for name, norm in norms.items()}


def silent(batch: Batch) -> dict[str, tuple[float, float]]:
    """Sum and count of rows that were not run, as their advantage is 0."""
    counts = {name: of_estimator(batch) if name in OF_ESTIMATOR else batch.mask_BT for name in KNOWN_OF_SILENT}
    return {name: (0.0, float(of_BT.sum())) for name, of_BT in counts.items()}


def sums(values: Mapping[str, Tensor], rows: ShapedRows) -> dict[str, tuple[float, float]]:
    """Sum and count over the policy's tokens; one transfer from the device for all of them."""
    all_BT, own_BT = (mask_BT.to(rows.advantage_BT.dtype) for mask_BT in (rows.mask_BT, of_estimator(rows)))
    totals = [(v * (own_BT if name in OF_ESTIMATOR else all_BT)).sum() for name, v in values.items()]
    *found, num, num_own = torch.stack([*totals, all_BT.sum(), own_BT.sum()]).tolist()
    pairs = zip(values, found, strict=True)
    return {name: (total, num_own if name in OF_ESTIMATOR else num) for name, total in pairs}


def maxima(values: Mapping[str, Tensor], mask_BT: Tensor) -> dict[str, float]:
    """The largest over the policy's tokens, 0 when there are none."""
    largest = torch.stack([(v * mask_BT).amax() for v in values.values()]).tolist()
    return dict(zip(values, largest, strict=True))
