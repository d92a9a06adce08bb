"""Conventional losses of the presets whose force on entropy is a term, as their papers write them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from tests.policies.objectives.surrogates.case import Case


def policy_loss(case: Case) -> Tensor:
    """GRPO's advantages in PPO's clip of .2/.2, every token alike."""
    return case.token_mean(case.clipped(case.grpo() * case.tis(), 0.2, 0.2))


def entropy_bonus(case: Case) -> Tensor:
    """A3C: minus the coefficient times the mean entropy; where the controller starts."""
    return policy_loss(case) - 1e-3 * case.token_mean(case.entropy_BT)


def skywork(case: Case) -> Tensor:
    """Skywork-OR1, equation 5: the same, where its controller starts."""
    return policy_loss(case) - 1e-4 * case.token_mean(case.entropy_BT)


def entropic(case: Case, alpha: float = 0.0) -> Tensor:
    """EntroPIC: alpha times the loss as if every sample were good, on likely tokens; the controller starts at 0."""
    is_likely_BT = case.lp_BT.detach().exp() > 0.95
    return policy_loss(case) + alpha * case.token_mean(-case.rho_BT * case.grpo().abs() * is_likely_BT)


def lp_reg(case: Case) -> Tensor:
    """Lp-Reg: k3 to the proxy and no clip on the rarest hundredth (here one token) of those that were bad."""
    advantage_BT = case.grpo().expand_as(case.lp_BT)
    is_bad_BT = (advantage_BT < 0) & case.mask_BT
    rarest = case.lp_old_BT.masked_fill(~is_bad_BT, torch.inf).argmin()
    is_rarest_BT = (torch.arange(case.lp_BT.numel()) == rarest).reshape(case.lp_BT.shape)
    is_below_BT = (case.lp_old_BT < case.lp_proxy_BT) & (case.lp_BT.detach() < case.lp_proxy_BT)
    is_pulled_BT = is_rarest_BT & is_bad_BT & is_below_BT
    gap_BT = torch.where(is_pulled_BT, case.lp_proxy_BT - case.lp_BT, 0.0)
    weighed_BT = advantage_BT * case.tis()
    clipped_BT = case.clipped(weighed_BT, 1.0, 9.0)
    loss_BT = torch.where(is_pulled_BT, -weighed_BT * case.rho_BT, clipped_BT)
    return case.token_mean(loss_BT + gap_BT.exp() - gap_BT - 1)


def siren(case: Case, anchors: dict[str, float] | None = None) -> Tensor:
    """SIREN: (Hbar - anchor)^2 around Hbar at the start of the step; in the first step that is the anchor."""
    loss = case.max_length / 1024 * case.constant(case.clipped(case.dr_grpo() * case.tis()))
    of_env: dict[str, list[tuple[Tensor, float]]] = {}
    for b in case.mask_BT.any(-1).nonzero()[:, 0].tolist():
        old = case.entropy_old_BT[b][case.mask_BT[b]].numpy()
        keep = old > np.quantile(old, 0.8)
        now = case.entropy_BT[b][case.mask_BT[b]][torch.tensor(keep)]
        zero = 0 * case.entropy_BT.sum()
        mean = now.mean() if keep.any() else zero
        env = case.arms[int(case.arm_B[b])].split("/")[0]
        of_env.setdefault(env, []).append((mean, float(old[keep].mean()) if keep.any() else 0.0))
    num = sum(len(rows) for rows in of_env.values())
    for env, rows in of_env.items():
        start = float(np.mean([old for _, old in rows]))
        gap = start - (anchors or {}).get(env, start)
        for mean, _ in rows:
            loss = loss + 5e-3 * 2 * gap * mean / num
    return loss


def epo(case: Case) -> Tensor:
    """EPO: the entropy, less a hinge to the band around its turn's history, which is this step in the first one."""
    bracket_BT = case.entropy_BT.clone()
    for env in {arm.split("/")[0] for arm in case.arms}:
        is_its_B = torch.tensor([case.arms[arm].split("/")[0] == env for arm in case.arm_B.tolist()])
        is_its_BT = is_its_B[:, None] & case.mask_BT
        turns_B = torch.where(case.mask_BT, case.turn_BT, -1).amax(-1) + 1
        is_long_B = turns_B >= turns_B[is_its_B].max() / 2
        for turn in range(2):
            is_turn_BT = is_its_BT & (case.turn_BT == turn)
            if not is_turn_BT.any():
                continue
            history = case.entropy_old_BT[is_turn_BT].mean()
            hinge_BT = (0.8 * history - case.entropy_BT).relu() + (case.entropy_BT - 1.2 * history).relu()
            bracket_BT = bracket_BT - hinge_BT * (is_turn_BT & is_long_B[:, None])
    return policy_loss(case) - 1e-3 * case.token_mean(bracket_BT)


SURROGATES: dict[str, Callable[[Case], Tensor]] = {
    "entropy_bonus": entropy_bonus,
    "skywork": skywork,
    "entropic": entropic,
    "lp_reg": lp_reg,
    "siren": siren,
    "epo": epo,
}
