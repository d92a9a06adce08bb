"""The conventional loss of Clip-Cov (objectives.md 9.1)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from tests.policies.objectives.surrogates.case import Case

SEED = 7  # of the objective that the tests compare with (`steps.begun`)


def clip_cov(case: Case) -> Tensor:
    """max(-A rho, -A clamp(rho)) of all tokens but some random ones of large covariance, mean over all of them."""
    advantage = case.grpo() * case.tis()
    loss_BT = torch.maximum(-advantage * case.rho_BT, -advantage * case.rho_BT.clamp(0.0, 2.0))
    for row, column in left_out(case):
        loss_BT = loss_BT.index_put((torch.tensor(row), torch.tensor(column)), torch.tensor(0.0).double())
    return case.token_mean(loss_BT)


def left_out(case: Case) -> list[tuple[int, int]]:
    """The tokens drawn, as our protocol numbers them: by log-prob, in the order of one permutation."""
    advantage_BT = case.grpo().expand_as(case.lp_old_BT)
    places = [(row, column) for row, column in case.mask_BT.nonzero().tolist()]
    a = np.array([float(advantage_BT[place]) for place in places])
    lp = np.array([float(case.lp_old_BT[place]) for place in places])
    cov = (a - a.mean()) * (lp - lp.mean())
    by_lp = [k for k in np.argsort(lp) if 1 < cov[k] < 5]
    num = min(max(1, int(2e-4 * len(places))), len(by_lp))
    order = np.random.default_rng(SEED).permutation(len(by_lp))
    return [places[by_lp[k]] for k in order[:num]]


SURROGATES: dict[str, Callable[[Case], Tensor]] = {"clip_cov": clip_cov}
