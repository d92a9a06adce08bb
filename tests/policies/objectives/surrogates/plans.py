"""Conventional losses of the presets whose point is the plan, for a batch without side rows.

A plan decides what is played, not what its loss is: what side rows add is in `tests/policies/objectives/test_plans.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from tests.policies.objectives.surrogates.case import Case


def aepo(case: Case) -> Tensor:
    """The usual GRPO part of AEPO's gradient, in DAPO's token mean."""
    return case.token_mean(case.clipped(case.grpo() * case.tis(), 0.2, 0.2))


def gvm(case: Case) -> Tensor:
    """GVM: a mean over tasks of the mean over each task's tokens."""
    loss_BT = case.clipped(case.grpo() * case.tis(), 0.2, 0.2)
    means = []
    for group in case.group_B.unique().tolist():
        mask_BT = case.mask_BT & (case.group_B == group)[:, None]
        if mask_BT.any():
            means.append(loss_BT[mask_BT].mean())
    return sum(means[1:], means[0]) / len(means)


SURROGATES: dict[str, Callable[[Case], Tensor]] = {"aepo": aepo, "scope": aepo, "gvm": gvm}
