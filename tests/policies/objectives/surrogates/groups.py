"""Conventional losses of the presets whose point is the estimator, as their papers write them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tests.policies.objectives.surrogates.case import Case


def rloo(case: Case) -> Tensor:
    """PPO with clip-higher on leave-one-out advantages."""
    return case.token_mean(case.clipped(case.rloo() * case.tis()))


def rloo_on_policy(case: Case) -> Tensor:
    """The policy gradient itself."""
    return case.token_mean(-case.rloo() * case.tis() * case.lp_BT)


def grpo(case: Case) -> Tensor:
    """DeepSeekMath, equation 3, without KL."""
    return case.seq_mean_token_mean(case.clipped(case.grpo() * case.tis(), 0.2, 0.2))


def dr_grpo(case: Case) -> Tensor:
    """Dr. GRPO; the preset's constant length is 1024."""
    return case.constant(case.clipped(case.dr_grpo() * case.tis(), 0.2, 0.2)) * case.max_length / 1024


def reinforce_pp(case: Case) -> Tensor:
    """REINFORCE++ with a baseline: centred by the group, whitened over all tokens."""
    valid = case.dr_grpo().expand_as(case.lp_BT)[case.mask_BT]
    white_BT = (case.dr_grpo() - valid.mean()) / torch.sqrt(valid.var() + 1e-8)
    return case.token_mean(case.clipped(white_BT * case.tis(), 0.2, 0.2))


def maxrl(case: Case) -> Tensor:
    """Centred over the mean reward of the group."""
    mean_B = case.group_mean(case.reward_B)
    advantage_B = torch.where(mean_B > 0, (case.reward_B - mean_B) / (mean_B + 1e-6), 0.0)
    return case.token_mean(case.clipped(advantage_B[:, None] * case.tis(), 0.2, 0.2))


def risk(case: Case) -> Tensor:
    """RiskPO in its first step: three tasks an arm make one set of bundles, scaled up to five."""
    reward, advantage_B = case.reward_B, torch.zeros_like(case.reward_B)
    mean_B = case.group_mean(reward)
    for arm in range(2):
        tasks = [torch.nonzero(case.group_B == g)[:, 0] for g in range(6) if g % 2 == arm]
        papers = [[int(task[k]) for task in tasks] for k in range(4)]
        totals = torch.stack([sum(reward[i] for i in paper) * 5 / 3 for paper in papers])  # type: ignore[misc]
        down, up = torch.quantile(totals, 0.2), torch.quantile(totals, 0.8)
        if totals.std() < 1e-6:
            continue
        for paper, total in zip(papers, totals, strict=True):
            rvar = (torch.relu(total - down) - torch.relu(total - up)) / (0.8 - 0.2)
            cvar = -torch.relu(down - total) / 0.2
            worth = (1.5 * cvar + rvar) / 2.5 / (totals.std() + 1e-6)
            ratios = [reward[i] - mean_B[i] for i in paper]
            whole = float(sum(ratios))
            for i, ratio in zip(paper, ratios, strict=True):
                advantage_B[i] = worth * ratio / whole if abs(whole) > 1e-6 else worth / len(paper)
    return case.token_mean(case.clipped(advantage_B[:, None] * case.tis(), 0.2, 0.2))


def copo(case: Case) -> Tensor:
    """COPO: a local and a global advantage, weighed by the entropy of the group's answers."""
    accuracy = [float(case.reward_B[case.group_B == g].mean()) for g in range(6)]
    advantage_B = torch.zeros_like(case.reward_B)
    for g in range(6):
        rows = torch.nonzero(case.group_B == g)[:, 0]
        shares = case.answer_B[rows].unique(return_counts=True)[1] / len(rows)
        entropy = -float((shares.double() * shares.double().log()).sum())
        weight = 1 / (1 + math.exp(-20 * (entropy - 1.5)))
        peers = torch.tensor([a for h, a in enumerate(accuracy) if h % 2 == g % 2], dtype=torch.float64)
        prompt = (accuracy[g] - peers.mean()) / (peers.std() + 1e-6)
        advantage_B[rows] = weight * case.grpo()[rows, 0] + (1 - weight) * prompt
    return case.token_mean(case.clipped(advantage_B[:, None] * case.tis(), 0.2, 0.2))


SURROGATES: dict[str, Callable[[Case], Tensor]] = {
    "rloo": rloo,
    "rloo_on_policy": rloo_on_policy,
    "grpo": grpo,
    "dr_grpo": dr_grpo,
    "reinforce_pp": reinforce_pp,
    "maxrl": maxrl,
    "risk": risk,
    "copo": copo,
}
