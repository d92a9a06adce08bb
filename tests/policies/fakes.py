"""Batches, trajectories and objectives for the tests of the learner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from policies.objectives.contracts import (
    Batch,
    Coefficients,
    Need,
    ShapedRows,
    SurveyResult,
    Totals,
    Trajectory,
)


def random_batch(vocabulary: int, num_groups: int = 6, group_size: int = 4, seed: int = 0) -> Batch:
    """Rows of different lengths; some groups have no spread, one row has two turns."""
    generator = torch.Generator().manual_seed(seed)
    num, width = num_groups * group_size, 14
    prompt_B = torch.randint(2, 6, (num,), generator=generator)
    length_B = prompt_B + torch.randint(1, 9, (num,), generator=generator)
    column_T = torch.arange(width)
    mask_BT = (column_T >= prompt_B[:, None]) & (column_T < length_B[:, None])
    mask_BT[0, : length_B.max()] = column_T[: length_B.max()] % 3 == 1
    length_B[0] = length_B.max()
    width = int(length_B.max())
    reward_NG = torch.randint(0, 2, (num_groups, group_size), generator=generator).float()
    reward_NG[::3] = 1
    return Batch(
        ids_BT=torch.randint(0, vocabulary, (num, width), generator=generator),
        mask_BT=mask_BT[:, :width],
        lp_roll_BT=torch.zeros(num, width),
        length_B=length_B,
        group_B=torch.arange(num) // group_size,
        reward_B=reward_NG.flatten(),
        advantage_BT=(reward_NG - reward_NG.mean(1, keepdim=True)).flatten()[:, None] * mask_BT[:, :width],
        arm_B=torch.zeros(num, dtype=torch.int64),
        turn_BT=torch.zeros(num, width, dtype=torch.int64),
    )


def random_trajectories(
    vocabulary: int, num_groups: int = 8, group_size: int = 4, seed: int = 0, spread: float = 0.5
) -> list[Trajectory]:
    """Groups as they are played: a prompt in common, answers of one token and more, turns, members lost.

    Prompts differ in length, and two groups have the same one. Every third group has many turns: stretches inside the
    answer that are not the policy's, some at the end. `spread`: the share of groups with different rewards.
    """
    generator = np.random.default_rng(seed)
    prompts = [generator.integers(0, vocabulary, generator.integers(2, 20)) for _ in range(num_groups)]
    prompts[-1] = prompts[0]
    made = []
    for group, prompt in enumerate(prompts):
        has_spread = generator.random() < spread
        for member in range(1 if group == 4 else group_size - group % 2):
            num = int(generator.integers(1, 12))
            ids = np.concatenate([prompt, generator.integers(0, vocabulary, num)])
            mask = np.arange(len(ids)) >= len(prompt)
            if group % 3 == 2:
                mask[len(prompt) + 1 :] &= generator.random(num - 1) < 0.6
            logprobs = np.where(mask, generator.normal(-3, 0.3, len(ids)), 0).astype(np.float32)
            reward = float(member % 2) if has_spread else 1.0
            parts = {"right": reward, "short": float(member % 3) / 2}
            is_right = reward == 1
            made.append(Trajectory(ids, mask, logprobs, None, reward, group, correct=is_right, components=parts))
    return made


@dataclass
class Surrogate:
    """A clipped-free surrogate with everything the learner can be asked for."""

    needs: frozenset[Need] = frozenset()
    updates: int = 1
    bonus: float = 0.0  # on the entropy, through its gradient
    push: float = 0.0  # on every token's log-prob, advantage or not
    scale: float = 1.0
    leaves_silent_rows_alone: bool = False
    nucleus: float | None = None
    kappa: float | None = None

    def split(self, batch: Batch) -> dict[str, Tensor]:
        return {}

    def advantages_of_updates(self, batch: Batch, parts: Sequence[Tensor]) -> Tensor:
        return batch.advantage_BT

    def is_run(self, batch: Batch) -> Tensor:
        has_tokens_B = batch.mask_BT.any(-1)
        return has_tokens_B & batch.has_advantage if self.leaves_silent_rows_alone else has_tokens_B

    def survey(self, rows: ShapedRows, totals: Totals) -> SurveyResult:
        return SurveyResult()

    def silent_sums(self, batch: Batch, rows: Tensor, totals: Totals) -> dict[str, tuple[float, float]]:
        return {"silent": (float(batch.mask_BT[rows].sum()), 1.0)}

    def coefficients(self, rows: ShapedRows, totals: Totals) -> Coefficients:
        mask_BT = rows.mask_BT / totals.num_tokens
        ratio_BT = (rows.lp_BT - rows.lp_old_BT).exp()
        w_BT = (rows.advantage_BT * ratio_BT - self.push * rows.lp_BT) * mask_BT * self.scale
        num = float(rows.mask_BT.sum())
        return Coefficients(
            w_BT=w_BT,
            k_BT=self.bonus * mask_BT if self.bonus else None,
            sums={"ratio": (float((ratio_BT * rows.mask_BT).sum()), num)},
            maxima={"ratio_max": float((ratio_BT * rows.mask_BT).max())},
        )
