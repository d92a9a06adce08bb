"""Batches and objectives for the tests of the learner."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from policies.objectives.contracts import Batch, Coefficients, Need, Rows, Totals


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
        advantage_B=(reward_NG - reward_NG.mean(1, keepdim=True)).flatten(),
    )


@dataclass
class Surrogate:
    """A clipped-free surrogate with everything the learner can be asked for."""

    needs: frozenset[Need] = frozenset()
    updates: int = 1
    bonus: float = 0.0  # on the entropy, through its gradient
    push: float = 0.0  # on every token's log-prob, advantage or not
    scale: float = 1.0

    def coefficients(self, rows: Rows, totals: Totals) -> Coefficients:
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
