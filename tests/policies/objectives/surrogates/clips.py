"""Conventional losses of the presets whose point is the ratio, as their papers write them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tests.policies.objectives.surrogates.case import Case


def dapo(case: Case) -> Tensor:
    """DAPO, equation 8: clip-higher, every token alike. Rewards are not shaped, as no answer here is overlong."""
    return case.token_mean(case.clipped(case.grpo() * case.tis(), 0.2, 0.28))


def adapo(case: Case) -> Tensor:
    """DAPO with the upper clip where the controller starts."""
    return case.token_mean(case.clipped(case.grpo() * case.tis(), 0.2, 0.28))


def mai_clip(case: Case) -> Tensor:
    """PPO inside [1 - e, 1 / (1 - e) + k], e = .6 and k = 0, the ratio held in [0, 50] before anything else."""
    rho_BT = case.rho_BT.clamp(0, 50)
    weighed_BT = case.grpo() * case.tis()
    return case.token_mean(-torch.minimum(weighed_BT * rho_BT, weighed_BT * rho_BT.clamp(1 - 0.6, 1 / 0.4)))


def gspo(case: Case) -> Tensor:
    """GSPO, equation 5: a mean over sequences of a clipped geometric mean ratio."""
    mean_B = ((case.lp_BT - case.lp_old_BT) * case.mask_BT).sum(-1) / case.num_tokens_B.clamp(min=1)
    ratio_B, advantage_B = mean_B.exp(), case.grpo()[:, 0]
    loss_B = -torch.minimum(ratio_B * advantage_B, ratio_B.clamp(1 - 3e-4, 1 + 4e-4) * advantage_B)
    has_any_B = case.mask_BT.any(-1)
    return loss_B[has_any_B].sum() / has_any_B.sum()


def cispo(case: Case) -> Tensor:
    """MiniMax-M1, equation 4: REINFORCE under a stopped, bounded weight."""
    return case.token_mean(-case.rho_BT.clamp(0, 5).detach() * case.grpo() * case.lp_BT)


def sapo(case: Case) -> Tensor:
    """SAPO: f(rho) = 4 / tau * sigmoid(tau * (rho - 1)) in the place of rho."""
    advantage_BT = case.grpo() * case.tis()
    tau_BT = torch.where(advantage_BT > 0, 1.0, 1.05)
    gate_BT = 4 / tau_BT / (1 + (-tau_BT * (case.rho_BT - 1)).exp())
    return case.seq_mean_token_mean(-gate_BT * advantage_BT)


def dppo(case: Case) -> Tensor:
    """DPPO, binary total variation, and prime-rl's square of the log-ratio."""
    advantage_B1, log_ratio_BT = case.dr_grpo(), case.lp_BT - case.lp_roll_BT
    moved_BT = (case.lp_BT.exp() - case.lp_roll_BT.exp()).detach()
    is_out_BT = torch.where(advantage_B1 > 0, moved_BT > 0.2, moved_BT < -0.2)
    policy_BT = -advantage_B1 * log_ratio_BT.exp() * ~is_out_BT
    return case.token_mean(policy_BT + 1e-3 * log_ratio_BT**2)


def ce_gppo(case: Case) -> Tensor:
    """CE-GPPO, equation 6: beyond the clip the ratio over its stopped self keeps a gradient of the bound's size."""
    advantage_BT, rho_BT = case.grpo() * case.tis(), case.rho_BT
    unit_BT = rho_BT / rho_BT.detach()
    rose_BT, fell_BT = (advantage_BT > 0) & (rho_BT > 1.2), (advantage_BT < 0) & (rho_BT < 0.8)
    factor_BT = torch.where(rose_BT, 1.0 * 1.2 * unit_BT, torch.where(fell_BT, 0.75 * 0.8 * unit_BT, rho_BT))
    loss_BT = -advantage_BT * factor_BT
    return case.token_mean(torch.where(advantage_BT < 0, loss_BT.minimum(-advantage_BT * 10), loss_BT))


SURROGATES: dict[str, Callable[[Case], Tensor]] = {
    "dapo": dapo,
    "gspo": gspo,
    "cispo": cispo,
    "sapo": sapo,
    "dppo": dppo,
    "ce_gppo": ce_gppo,
    "adapo": adapo,
    "mai_clip": mai_clip,
}
