"""A random step for comparing the single loss with conventional ones: everything a paper's loss could ask for.

B sequences in groups, T tokens. Quantities are drawn so that ratios, gaps and entropies are of ordinary size, and none
sits at a kink. `lp_BT` and `entropy_BT` are leaves with gradient: the loss is differentiated with respect to them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Case:
    """One step and one update of it."""

    mask_BT: Tensor  # bool
    lp_BT: Tensor  # leaf, under the policy being updated
    entropy_BT: Tensor  # leaf, of the full distribution (over its nucleus for objectives that say so)
    lp_old_BT: Tensor
    lp_roll_BT: Tensor
    lp_ref_BT: Tensor
    entropy_old_BT: Tensor
    lp_proxy_BT: Tensor  # after Lp-Reg's filter at the start of the step; -1e4 where filtered out
    group_B: Tensor  # int64
    reward_B: Tensor  # 0 or 1, float64
    correct_B: Tensor  # bool
    answer_B: Tensor  # int64
    turn_BT: Tensor  # int64
    arm_B: Tensor  # int64, places in `arms`
    arms: tuple[str, ...]  # "environment/category"
    think_end_B: Tensor  # int64, position behind the closing think tag; the width where there is none
    sampler_entropy_BT: Tensor  # as the sampler reported it
    components: dict[str, Tensor] = field(default_factory=dict)  # [B]
    max_length: int = 8

    @property
    def num_tokens_B(self) -> Tensor:  # noqa: N802 - shaped like a tensor
        return self.mask_BT.sum(-1)

    @property
    def num_tokens(self) -> int:
        return int(self.mask_BT.sum())

    def token_mean(self, value_BT: Tensor) -> Tensor:
        """Mean over all tokens that the policy wrote."""
        return value_BT.masked_fill(~self.mask_BT, 0).sum() / self.num_tokens

    def seq_mean_token_mean(self, value_BT: Tensor) -> Tensor:
        """Mean over sequences of their means."""
        per_B = value_BT.masked_fill(~self.mask_BT, 0).sum(-1) / self.num_tokens_B.clamp(min=1)
        return per_B.sum() / int(self.mask_BT.any(-1).sum())

    def constant(self, value_BT: Tensor) -> Tensor:
        """Sum over a constant length, mean over sequences."""
        return value_BT.masked_fill(~self.mask_BT, 0).sum() / self.max_length / int(self.mask_BT.any(-1).sum())

    def group_mean(self, value_B: Tensor) -> Tensor:
        """Mean over each row's group, [B]."""
        same = (self.group_B[:, None] == self.group_B[None, :]).to(value_B.dtype)
        return same @ value_B / same.sum(-1)

    def rloo(self) -> Tensor:
        """Leave-one-out advantages [B, 1]."""
        size = (self.group_B[:, None] == self.group_B[None, :]).sum(-1).double()
        return ((self.reward_B - self.group_mean(self.reward_B)) * size / (size - 1).clamp(min=1))[:, None]

    def grpo(self) -> Tensor:
        """Standardised advantages [B, 1], n - 1 form, eps 1e-6."""
        size = (self.group_B[:, None] == self.group_B[None, :]).sum(-1).double()
        centred = self.reward_B - self.group_mean(self.reward_B)
        std = (self.group_mean(centred**2) * size / (size - 1).clamp(min=1)).sqrt()
        return (centred / (std + 1e-6))[:, None]

    def dr_grpo(self) -> Tensor:
        """Centred advantages [B, 1]."""
        return (self.reward_B - self.group_mean(self.reward_B))[:, None]

    @property
    def rho_BT(self) -> Tensor:  # noqa: N802 - shaped like a tensor
        """The ratio to the start of the step, with gradient."""
        return (self.lp_BT - self.lp_old_BT).exp()

    def tis(self, cap: float = 2.0) -> Tensor:
        """Truncated importance weights [B, T]."""
        return (self.lp_old_BT - self.lp_roll_BT).exp().clamp(max=cap)

    def clipped(self, advantage: Tensor, low: float = 0.2, high: float = 0.28) -> Tensor:
        """PPO's loss of each token, [B, T]; the advantage may hold weights."""
        rho = self.rho_BT
        return -torch.minimum(advantage * rho, advantage * rho.clamp(1 - low, 1 + high))


def random_case(seed: int, num_groups: int = 6, group_size: int = 4, width: int = 8) -> Case:
    """Draw a step; some groups have no spread, one row has no token of the policy, some rows have two turns."""
    rng = torch.Generator().manual_seed(seed)
    num = num_groups * group_size

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape or (num, width), generator=rng, dtype=torch.float64)

    length_B = torch.randint(3, width + 1, (num,), generator=rng)
    column_T = torch.arange(width)[None, :]
    mask_BT = (column_T >= 1) & (column_T < length_B[:, None])
    mask_BT[::5] &= (column_T % 3 != 0)[0]
    mask_BT[3] = False
    reward_B = torch.randint(0, 2, (num,), generator=rng).double()
    reward_B[:group_size] = 1
    lp_BT = uniform(-4, -0.05)
    entropy_BT = uniform(0.05, 2.5)
    is_filtered_BT = torch.rand(num, width, generator=rng) < 0.2
    lp_old_BT = (lp_BT + uniform(-0.6, 0.6)).clamp(max=-0.01)
    return Case(
        mask_BT=mask_BT,
        lp_BT=lp_BT.clone().requires_grad_(),
        entropy_BT=entropy_BT.clone().requires_grad_(),
        lp_old_BT=lp_old_BT,
        lp_roll_BT=(lp_old_BT + uniform(-0.9, 0.9)).clamp(max=-0.001),
        lp_ref_BT=(lp_BT + uniform(-0.8, 0.8)).clamp(max=-0.005),
        entropy_old_BT=(entropy_BT * uniform(0.85, 1.15)),
        lp_proxy_BT=(lp_old_BT + uniform(0.001, 0.3)).clamp(max=-0.001).masked_fill(is_filtered_BT, -1e4),
        group_B=torch.arange(num) // group_size,
        reward_B=reward_B,
        correct_B=reward_B == 1,
        answer_B=torch.randint(0, 3, (num,), generator=rng),
        turn_BT=(column_T >= 4).long().expand(num, width).clone(),
        arm_B=(torch.arange(num) // group_size) % 2,
        arms=("one/a", "two/b"),
        think_end_B=torch.where(torch.arange(num) % 3 == 0, width, 4),
        sampler_entropy_BT=uniform(0.05, 2.5),
        components={
            "right": reward_B,
            "format": torch.randint(0, 2, (num,), generator=rng).double(),
            "short": uniform(0, 1, num),
        },
    )
