"""The conventional loss of KL-Cov, as its paper and verl write it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tests.policies.objectives.surrogates.case import Case


def kl_cov(case: Case) -> Tensor:
    """The plain ratio; the token of largest covariance (.002 of the tokens are less than one) pays |lp - lp_old|."""
    advantage_BT = case.grpo().expand_as(case.lp_BT)
    a, lp = advantage_BT[case.mask_BT], case.lp_old_BT[case.mask_BT]
    covariance = ((a - a.mean()) * (lp - lp.mean())).masked_fill(a == 0, -torch.inf)
    penalty = torch.zeros_like(covariance)
    penalty[covariance.argmax()] = 1.0
    loss = -advantage_BT * case.tis() * case.rho_BT
    loss = loss[case.mask_BT] + penalty * (case.lp_BT - case.lp_old_BT).abs()[case.mask_BT]
    return loss.mean()


SURROGATES: dict[str, Callable[[Case], Tensor]] = {"kl_cov": kl_cov}
