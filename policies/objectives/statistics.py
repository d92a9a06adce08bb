"""Statistics of a step: sums inside groups, quantiles and whitening over tokens, centred log-probs, covariances.

B sequences, T tokens. Nothing here depends on padding, on the order of rows or on how the step is cut. What is taken
over all tokens of a step belongs in a survey, which sees all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from policies.objectives.contracts import Need, ShapedRows, Totals
from policies.objectives.parts import Tensor, exp_clamped, given

WHITENING_EPS = 1e-8
Centre = Literal["exact", "batch", "none"]


def group_size(group_B: Tensor) -> Tensor:
    """How many rows share each row's group, int64 [B]."""
    return group_sum(group_B.new_ones(len(group_B)), group_B)


def group_sum(value_B: Tensor, group_B: Tensor) -> Tensor:
    """The sum over each row's group, [B]; groups may have any size and order."""
    index_B, num_groups = _numbered(group_B)
    return value_B.new_zeros(num_groups).index_add(0, index_B, value_B)[index_B]


def group_max(value_B: Tensor, group_B: Tensor) -> Tensor:
    """The largest of each row's group, [B]."""
    index_B, num_groups = _numbered(group_B)
    zero_N = value_B.new_zeros(num_groups)
    return zero_N.scatter_reduce(0, index_B, value_B, "amax", include_self=False)[index_B]


def centred(value_B: Tensor, group_B: Tensor) -> Tensor:
    """The value minus its group's mean, [B]; exactly 0 where all members are equal: rounding errors may be divided."""
    is_even_B = group_max(value_B, group_B) == -group_max(-value_B, group_B)
    mean_B = group_sum(value_B, group_B) / group_size(group_B)
    return (value_B - mean_B).masked_fill(is_even_B, 0.0)


def _numbered(group_B: Tensor) -> tuple[Tensor, int]:
    """Groups numbered from 0 at each row, and how many there are."""
    unique_N, index_B = group_B.unique(return_inverse=True)  # type: ignore[no-untyped-call]
    return index_B, len(unique_N)


def rows_by_environment(arm_B: Tensor, arms: Sequence[str], among_B: Tensor | None = None) -> dict[str, Tensor]:
    """The rows of every environment present, bool [B], by its name, in alphabetical order.

    `arm_B`: places in `arms`; `among_B`: the rows that count, all if None.
    """
    numbers: dict[str, list[int]] = {}
    for arm in sorted(set((arm_B if among_B is None else arm_B[among_B]).tolist())):
        numbers.setdefault(arms[arm].split("/")[0], []).append(arm)
    found = {name: (arm_B[:, None] == arm_B.new_tensor(own)).any(-1) for name, own in sorted(numbers.items())}
    return found if among_B is None else {name: is_own_B & among_B for name, is_own_B in found.items()}


def environments(rows: ShapedRows, totals: Totals) -> dict[str, Tensor]:
    """The sequences of every environment that wrote a token, by its name, in alphabetical order: bool [B]."""
    has_tokens_B = rows.mask_BT.any(-1)
    if rows.arm_B is None:
        return {"": has_tokens_B} if bool(has_tokens_B.any()) else {}
    return rows_by_environment(rows.arm_B, totals.arms, has_tokens_B)


def start_entropy(rows: ShapedRows, part: str) -> Tensor:
    """The entropy of every token at the start of the step, [B, T], nats."""
    return given(rows.entropy_old_BT, f"`{part}` reads the entropy of every token at the start of the step")


def quantile(values: Tensor, share: float, between: Literal["linear", "nearest"] = "linear") -> float:
    """The value below which this share of some values lies, at least one; in double precision."""
    return float(np.quantile(values.double().cpu().numpy(), share, method=between))


def whitened(value_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """(x - mean) / sqrt(var + 1e-8) over all valid tokens of a step, with the n - 1 variance, [B, T]; 0 off the mask.

    Every token is a value of its own, so longer answers count more. No token, one token, or equal values give exactly
    0. Source: REINFORCE++, arXiv 2501.03262; checked against verl `torch_functional.py` (`masked_whiten`).
    """
    valid = value_BT[mask_BT]
    if not len(valid) or bool(valid.min() == valid.max()):
        return value_BT.new_zeros(value_BT.shape)
    white_BT = (value_BT - valid.mean()) / (valid.var() + WHITENING_EPS).sqrt()
    return white_BT.masked_fill(~mask_BT, 0.0)


def centring_needs(centre: Centre) -> frozenset[Need]:
    """What the learner computes for `centred_lp`. The mean is over all rows of the step, silent ones too."""
    needs: dict[Centre, frozenset[Need]] = {"exact": frozenset({"entropy"}), "batch": frozenset({"mean_lp"})}
    return needs.get(centre, frozenset())


def centred_lp(rows: ShapedRows, totals: Totals, centre: Centre) -> Tensor:
    """L, by which the REPO family (arXiv 2603.11682) compares tokens, under the policy being updated, [B, T], nats.

    exact   L = lp + H            minus the mean over the vocabulary at that position; needs the entropy
    batch   L = lp - mean(lp)     minus the mean over the step's tokens; mixes positions and environments
    none    L = lp                as REPO-R is published
    """
    if centre == "none":
        return rows.lp_BT
    if centre == "exact":
        return rows.lp_BT + given(rows.entropy_BT, "`centre: exact` reads the entropy of every token")
    return rows.lp_BT - given(totals.mean_lp, "`centre: batch` reads the step's mean log-prob, `Totals.mean_lp`")


def token_covariance(rows: ShapedRows) -> Tensor:
    """cov = (A - mean A) * (lp - mean lp) of each token, whose mean predicts how fast entropy falls, [B, T].

    Symbols: A the estimator's advantage of the token, lp its log-prob (nats) at the start of the step, both means over
    all tokens that the policy wrote in the step (the released code: in the micro-batch). cov > 0: a likely token that
    is rewarded, or a rare one that is punished; both sharpen the distribution. A few tokens with a huge cov carry
    nearly all of the fall. 0 off the mask; equal advantages, or equal log-probs, give 0 up to rounding.

    Source: The Entropy Mechanism of Reinforcement Learning for Reasoning Language Models, arXiv 2505.22617; checked
    against PRIME-RL/Entropy-Mechanism-of-RL and verl `core_algos.py` (`clip_cov`, `kl_cov`).
    """

    def deviation(value_BT: Tensor) -> Tensor:  # from a mean exact enough not to depend on the order of rows
        total = value_BT.masked_fill(~rows.mask_BT, 0.0).double().sum()
        return value_BT - (total / rows.mask_BT.sum().clamp(min=1)).to(value_BT.dtype)

    return (deviation(rows.advantage_BT) * deviation(rows.lp_old_BT)).masked_fill(~rows.mask_BT, 0.0)


def surprisal(lp_BT: Tensor, lp_roll_BT: Tensor) -> Tensor:
    """-w * lp of each sampled token [B, T], w = exp(lp - lp_roll): an estimate of the learner's entropy, nats.

    Its mean corrects samples that other weights wrote, token by token; w is not capped, and not divided by its mean.
    Source: importance sampling; read so by MAI-Thinking-1 (2026), known from descriptions.
    """
    return -exp_clamped(lp_BT - lp_roll_BT) * lp_BT


def surprisal_by_arm(rows: ShapedRows, totals: Totals) -> dict[str, tuple[float, float]]:
    """Sum of the surprisal at the start of the step and number of tokens, by arm; none without tokens."""
    assert rows.arm_B is not None, "the learner gives it"
    mask_BT = rows.mask_BT.double()
    per_row_B2 = mask_BT.new_zeros(len(mask_BT), 2)
    per_row_B2[:, 0] = (surprisal(rows.lp_old_BT, rows.lp_roll_BT).double() * mask_BT).sum(-1)
    per_row_B2[:, 1] = mask_BT.sum(-1)
    per_arm_K2 = mask_BT.new_zeros(len(totals.arms), 2).index_add(0, rows.arm_B, per_row_B2)
    found = zip(totals.arms, per_arm_K2.tolist(), strict=True)
    return {arm: (total, count) for arm, (total, count) in found if count}
