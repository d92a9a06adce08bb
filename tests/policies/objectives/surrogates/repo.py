"""The conventional losses of the REPO family (objectives.md 8), at the strength that their controllers start with."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from tests.policies.objectives.surrogates.case import Case

STRENGTH = 1e-3
ADAPTIVE_STRENGTH = 0.02


def repo(case: Case) -> Tensor:
    """8.1: PPO's loss of A - beta (lp + H)."""
    centred = (case.lp_BT + case.entropy_BT).detach()
    return case.token_mean(case.clipped((case.rloo() - STRENGTH * centred) * case.tis()))


def repo_adaptive(case: Case) -> Tensor:
    """PPO's loss of A - beta / T (lp + H), T the mean number of tokens of the step's responses."""
    num_responses = int(case.mask_BT.any(-1).sum())
    centred = (case.lp_BT + case.entropy_BT).detach()
    beta = ADAPTIVE_STRENGTH * num_responses / case.num_tokens
    return case.token_mean(case.clipped((case.rloo() - beta * centred) * case.tis()))


def repo_r(case: Case) -> Tensor:
    """8.2: PPO's loss of A - zeta |A| lp."""
    a = case.rloo()
    return case.token_mean(case.clipped((a - STRENGTH * a.abs() * case.lp_BT.detach()) * case.tis()))


def repo_d(case: Case) -> Tensor:
    """8.3: PPO's loss of A - zeta D (lp + H), D the mean of A (lp + H) over the step's tokens at its start."""
    a = case.rloo()
    change = case.token_mean(a * (case.lp_old_BT + case.entropy_old_BT))
    centred = (case.lp_BT + case.entropy_BT).detach()
    return case.token_mean(case.clipped((a - STRENGTH * change * centred) * case.tis()))


SURROGATES: dict[str, Callable[[Case], Tensor]] = {
    "repo": repo,
    "repo_adaptive": repo_adaptive,
    "repo_r": repo_r,
    "repo_d": repo_d,
}
