"""Conventional losses of the presets whose point is what a sample earns, as their papers write them; first steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from tests.policies.objectives.surrogates.case import Case


def pear(case: Case) -> Tensor:
    """GRPO on rewards from which correct answers pay for uncertain thinking."""
    reward_B = case.reward_B.clone()
    for b in range(len(reward_B)):
        split = int(case.think_end_B[b])
        think = case.sampler_entropy_BT[b, :split][case.mask_BT[b, :split]]
        answer = case.sampler_entropy_BT[b, split:][case.mask_BT[b, split:]]
        means = [float(some.mean()) if len(some) else 0.0 for some in (think, answer)]
        if case.correct_B[b]:
            reward_B[b] -= max(0.0, means[0] - means[1])
    return _grpo(replace(case, reward_B=reward_B))


def ares(case: Case) -> Tensor:
    """GRPO on rewards with ARES' bonus, after `compute_score` of its code; one arm at a time."""
    reward_B = case.reward_B.clone()
    for arm in range(2):
        rows = torch.nonzero(case.arm_B == arm)[:, 0].tolist()
        tokens = {b: case.sampler_entropy_BT[b][case.mask_BT[b]].numpy() for b in rows}
        threshold = np.median([np.quantile(values, 0.95) for values in tokens.values() if len(values)])
        counts = {b: float((values > threshold).sum()) for b, values in tokens.items()}
        buckets: dict[str, list[list[int]]] = {"easy": [], "medium": [], "hard": []}
        for g in sorted({int(case.group_B[b]) for b in rows}):
            members = [b for b in rows if int(case.group_B[b]) == g]
            accuracy = np.mean([float(case.reward_B[b]) for b in members])
            buckets["easy" if accuracy >= 2 / 3 else "medium" if accuracy >= 1 / 3 else "hard"].append(members)
        for difficulty, groups in buckets.items():
            if not groups:
                continue
            mean = np.mean([np.mean([counts[b] for b in members]) for members in groups])
            target = float(round(float(mean)))
            step = 0.05 * (target - mean if difficulty == "hard" else mean - target)
            alpha = float(np.clip(0.5 + step, 0, 2))
            for b in [b for members in groups for b in members]:
                reward_B[b] += _ares_bonus(counts[b], target, alpha, difficulty, bool(case.correct_B[b]))
    return _grpo(replace(case, reward_B=reward_B))


def constrained(case: Case) -> Tensor:
    """All multipliers at 0, so every weight is a half; the KL takes what is left."""
    rewards = [replace(case, reward_B=value_B).rloo() for value_B in case.components.values()]
    kl_BT = -0.01 * (case.lp_roll_BT - case.lp_ref_BT)
    advantage_BT = (3 - 1.5) * kl_BT + 0.5 * sum(rewards, torch.zeros_like(rewards[0]))
    return case.token_mean(case.clipped(advantage_BT * case.tis(), 0.2, 0.2))


def weighted(case: Case) -> Tensor:
    """The mean of the components."""
    mean_B = torch.stack(list(case.components.values())).mean(0)
    return case.token_mean(case.clipped(replace(case, reward_B=mean_B).rloo() * case.tis()))


def hypervolume(case: Case) -> Tensor:
    """An empty front: each arm's point adds the box between the origin and itself."""
    factor_B = torch.ones_like(case.reward_B)
    for arm in range(2):
        is_here_B = case.arm_B == arm
        box = math.prod(float(value_B[is_here_B].mean()) for value_B in case.components.values())
        factor_B[is_here_B] = 0.5 + 1.5 * math.tanh(box)
    return case.token_mean(case.clipped(replace(case, reward_B=case.reward_B * factor_B).rloo() * case.tis()))


def _grpo(case: Case) -> Tensor:
    return case.token_mean(case.clipped(case.grpo() * case.tis(), 0.2, 0.2))


def _ares_bonus(count: float, target: float, alpha: float, difficulty: str, is_correct: bool) -> float:
    fraction, kappa, temperature, scale = {
        "easy": (0.15, 2.0, 2.0, 1.0),
        "medium": (0.25, 3.0, 2.5, 1.0),
        "hard": (0.35, 4.0, 3.0, 1.2),
    }[difficulty]
    delta, margin, cap = count - target, max(1.0, fraction * max(target, 1.0)), alpha * scale

    def huber(x: float) -> float:
        return 0.5 * x * x / kappa if x <= kappa else x - 0.5 * kappa

    def saturate(x: float) -> float:
        return 1 / (1 + math.exp(-x / temperature))

    if not is_correct:
        share = {"easy": 0.6, "medium": 0.8, "hard": 1.0}[difficulty]
        return saturate(max(delta - margin, 0.0)) * cap * share
    if difficulty == "hard" and delta >= -margin:
        return saturate(delta + margin) * cap
    if difficulty == "hard":
        return -min(cap, 0.5 * huber(-delta - margin) / (margin + kappa) * cap)
    away = max((delta if difficulty == "easy" else abs(delta)) - margin, 0.0)
    return -min(cap, huber(away) / (margin + kappa) * cap)


SURROGATES: dict[str, Callable[[Case], Tensor]] = {
    "pear": pear,
    "ares": ares,
    "constrained": constrained,
    "weighted": weighted,
    "hypervolume": hypervolume,
}
