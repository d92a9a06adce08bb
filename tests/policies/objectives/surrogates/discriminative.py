"""Conventional losses of the discriminative presets, as their papers write them.

Weights over wrong answers are stopped and taken at the start of the step, where papers take the present ones.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tests.policies.objectives.surrogates.case import Case


def disco(case: Case) -> Tensor:
    """Minus the mean over questions of J, and the penalty beyond a KL of 1e-4."""
    return _loss(case, torch.ones_like(case.reward_B))


def drpo(case: Case) -> Tensor:
    """The same with correct answers by their shortness, lambda .1 and at most 1024 tokens."""
    return _loss(case, torch.exp((1 - case.num_tokens_B / 1024) / 0.1))


def _loss(case: Case, weight_B: Tensor) -> Tensor:
    score_B, start_B = _score(case, case.lp_BT), _score(case, case.lp_old_BT)
    questions = case.group_B.unique().tolist()
    objective = torch.zeros((), dtype=torch.float64)
    for question in questions:
        is_in_B = (case.group_B == question) & case.mask_BT.any(-1)
        right, wrong = is_in_B & case.correct_B, is_in_B & ~case.correct_B
        if not right.any() or not wrong.any():
            continue
        good = (weight_B[right] * score_B[right]).sum() / weight_B[right].sum()
        bad = (torch.softmax(start_B[wrong] / 10, 0).detach() * score_B[wrong]).sum()
        objective = objective + good - bad
    gap_BT = case.lp_old_BT - case.lp_BT
    factor = torch.relu(1e3 * (case.token_mean(gap_BT) - 1e-4)).detach()
    return -objective / len(questions) + factor * case.seq_mean_token_mean(gap_BT)


def _score(case: Case, lp_BT: Tensor) -> Tensor:
    return (lp_BT * case.mask_BT).sum(-1) / case.num_tokens_B.clamp(min=1)


SURROGATES: dict[str, Callable[[Case], Tensor]] = {"disco": disco, "drpo": drpo}
