"""Conventional losses with weights or masks on tokens (objectives.md 10)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tests.policies.objectives.surrogates.case import Case


def top_entropy(case: Case) -> Tensor:
    """10.1: the loss of the fifth of tokens with the highest entropy, mean over all tokens."""
    threshold = torch.quantile(case.entropy_old_BT[case.mask_BT], 0.8, interpolation="linear")
    is_kept_BT = case.entropy_old_BT >= threshold
    return case.token_mean(case.clipped(case.grpo() * case.tis()).masked_fill(~is_kept_BT, 0))


def steer(case: Case) -> Tensor:
    """10.2: the loss weighed by .8 to 1.2, less where (A / p_old) p (1 - p) (lp + H) is large; dual clip 10."""
    p = case.lp_old_BT.exp()
    omega = ((case.grpo() / p) * p * (1 - p) * (case.lp_old_BT + case.entropy_old_BT)).abs()
    low, high = omega[case.mask_BT].min(), omega[case.mask_BT].max()
    weight = 0.8 + 0.4 * (high - omega) / (high - low)
    a = case.grpo() * case.tis()
    loss = case.clipped(a)
    return case.token_mean(weight * torch.where(a < 0, torch.minimum(-10 * a, loss), loss))


def erc(case: Case) -> Tensor:
    """10.3: DAPO's loss of the tokens whose entropy stayed within 5 % since the start of the step."""
    ratio = (case.entropy_BT.detach() + 1e-8) / (case.entropy_old_BT + 1e-8)
    is_clipped = (ratio <= 0.95) | (ratio >= 1.05)
    return case.token_mean(case.clipped(case.grpo() * case.tis()).masked_fill(is_clipped, 0))


def ettrl(case: Case) -> Tensor:
    """10.4: each response's advantage times 1 + (Hbar - H) / Hbar, entropies being means over responses."""
    has_tokens = case.mask_BT.any(-1).double()
    mean = case.entropy_old_BT.masked_fill(~case.mask_BT, 0).sum(-1) / case.num_tokens_B.clamp(min=1)
    whole = case.group_mean(mean * has_tokens) / case.group_mean(has_tokens)
    a = case.grpo() * (1 + (whole - mean) / whole)[:, None]
    return case.token_mean(case.clipped(a * case.tis(), 0.2, 0.2))


def hapo(case: Case) -> Tensor:
    """10.5: token-level group advantages, a weight 1 + h by where the ratio is, and bounds by h."""
    h = hapo_score(case)
    low = torch.where(h <= 0, 0.2 * (1 - h), 0.2)
    high = torch.where(h > 0, 0.2 * (1 + h), 0.2)
    rho = case.rho_BT
    is_inside = (rho.detach() > 1 - low / 2) & (rho.detach() < 1 + high / 2)
    a = token_level_advantage(case)[:, None] * torch.where((h > 0) ^ is_inside, 1 + h, 1.0) * case.tis()
    return case.token_mean(torch.maximum(-a * rho, -a * torch.clamp(rho, 1 - low, 1 + high)))


def hapo_score(case: Case) -> Tensor:
    """Log-entropies against their .8-quantile, by their spread, each side by its largest."""
    e = case.entropy_old_BT.log()
    pivot = torch.quantile(e[case.mask_BT], 0.8, interpolation="nearest")
    z = (e - pivot) / ((e[case.mask_BT] - pivot) ** 2).mean().sqrt()
    return torch.where(z > 0, z / z[case.mask_BT].max(), z / -z[case.mask_BT].min())


def token_level_advantage(case: Case) -> Tensor:
    """Standardised by mean and population spread over the tokens of the group; GRPO's where one reaches 5."""
    advantage = torch.zeros_like(case.reward_B)
    for group in set(case.group_B.tolist()):
        rows = (case.group_B == group) & case.mask_BT.any(-1)
        tokens = case.reward_B[rows].repeat_interleave(case.num_tokens_B[rows])
        own = (case.reward_B[rows] - tokens.mean()) / (tokens.std(correction=0) + 1e-6)
        advantage[rows] = own if own.abs().max() < 5 else case.grpo()[rows, 0]
    return advantage


SURROGATES: dict[str, Callable[[Case], Tensor]] = {
    "top_entropy": top_entropy,
    "steer": steer,
    "erc": erc,
    "ettrl": ettrl,
    "hapo": hapo,
}
