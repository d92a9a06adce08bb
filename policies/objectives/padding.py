"""From trajectories to padded tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from policies.objectives.contracts import Batch
from policies.objectives.errors import ObjectiveError
from policies.trajectories import Trajectory


def pad(trajectories: Sequence[Trajectory]) -> Batch:
    """Stack a step's trajectories, padded on the right, on the CPU; advantages are 0 still."""
    if not trajectories:
        raise ObjectiveError(
            "an objective got no trajectories to prepare; a batch wholly unscorable makes no update"
        )
    lengths = [len(t.ids) for t in trajectories]
    mask = _stack([t.mask for t in trajectories], max(lengths), np.bool_)
    logprobs = _stack([t.logprobs for t in trajectories], max(lengths), np.float32)
    reward_B = torch.tensor([t.reward for t in trajectories], dtype=torch.float32)
    return Batch(
        ids_BT=torch.from_numpy(_stack([t.ids for t in trajectories], max(lengths), np.int64)),
        mask_BT=torch.from_numpy(mask),
        lp_roll_BT=torch.from_numpy(np.where(mask, logprobs, np.float32(0))),
        length_B=torch.tensor(lengths),
        group_B=torch.tensor([t.group for t in trajectories]),
        reward_B=reward_B,
        advantage_B=torch.zeros_like(reward_B),
    )


def _stack(rows: Sequence[NDArray[np.generic]], width: int, dtype: type[np.generic]) -> NDArray[np.generic]:
    """Rows of different lengths as one array [B, width], 0 behind each."""
    stacked = np.zeros((len(rows), width), dtype)
    for b, row in enumerate(rows):
        stacked[b, : len(row)] = row
    return stacked
