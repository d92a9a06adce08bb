"""From trajectories to padded tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from policies.objectives.contracts import Batch, Trajectory
from policies.objectives.errors import ObjectiveError
from policies.objectives.parts import Outcomes


def pad(trajectories: Sequence[Trajectory]) -> Batch:
    """Stack a step's trajectories, padded on the right, on the CPU; advantages are 0 still."""
    if not trajectories:
        raise ObjectiveError("an objective got no trajectories to prepare; a batch wholly unscorable makes no update")
    lengths = [len(t.ids) for t in trajectories]
    mask_BT = _stack([t.mask for t in trajectories], max(lengths), np.bool_)
    lp_roll_BT = _stack([t.logprobs for t in trajectories], max(lengths), np.float32)
    lp_roll_BT = lp_roll_BT.masked_fill(~mask_BT, 0)
    number_of = {arm: number for number, arm in enumerate(dict.fromkeys(t.arm for t in trajectories))}
    none = np.zeros(0, np.int64)
    return Batch(
        ids_BT=_stack([t.ids for t in trajectories], max(lengths), np.int64),
        mask_BT=mask_BT,
        lp_roll_BT=lp_roll_BT,
        length_B=torch.tensor(lengths),
        group_B=torch.tensor([t.group for t in trajectories]),
        reward_B=torch.tensor([t.reward for t in trajectories], dtype=torch.float64),
        advantage_BT=torch.zeros_like(lp_roll_BT),
        arm_B=torch.tensor([number_of[t.arm] for t in trajectories]),
        turn_BT=_stack([none if t.turns is None else t.turns for t in trajectories], max(lengths), np.int64),
        arms=tuple(number_of),
        is_given_B=torch.tensor([t.advantage is not None for t in trajectories]),
    )


def outcomes_of(batch: Batch, trajectories: Sequence[Trajectory]) -> Outcomes:
    """What the estimator and the reward maps may read of a step, float64 where it is a number."""
    entropies = [np.zeros_like(t.logprobs) if t.entropies is None else t.entropies for t in trajectories]
    width = batch.mask_BT.shape[1]
    names = sorted({name for t in trajectories for name in t.components})
    answers = {answer: k for k, answer in enumerate(dict.fromkeys(t.answer for t in trajectories))}
    ends = [width if t.think_end is None else t.think_end for t in trajectories]
    return Outcomes(
        reward_B=batch.reward_B,
        group_B=batch.group_B,
        num_tokens_B=batch.mask_BT.sum(-1),
        mask_BT=batch.mask_BT,
        entropy_BT=_stack(entropies, width, np.float32).double() * batch.mask_BT,
        is_answer_BT=(torch.arange(width) >= torch.tensor(ends)[:, None]) & batch.mask_BT,
        correct_B=torch.tensor([t.correct for t in trajectories]),
        components={
            name: torch.tensor([t.components.get(name, float("nan")) for t in trajectories], dtype=torch.float64)
            for name in names
        },
        answer_B=torch.tensor([answers[t.answer] for t in trajectories]),
        was_cut_off_B=torch.tensor([t.was_cut_off for t in trajectories]),
        arm_B=batch.arm_B,
        arms=batch.arms,
        kl_BT=None if batch.lp_ref_BT is None else batch.lp_roll_BT.double() - batch.lp_ref_BT.double(),
    )


def _stack(rows: Sequence[NDArray[Any]], width: int, dtype: type[np.generic]) -> Tensor:
    """Rows of different lengths as one tensor [B, width], 0 behind each."""
    stacked = np.zeros((len(rows), width), dtype)
    stacked[np.arange(width) < np.array([len(row) for row in rows])[:, None]] = np.concatenate(rows)
    return torch.from_numpy(stacked)
