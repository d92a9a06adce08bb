"""Cutting a step's batch: into mini-batches, one an optimiser update, and those into micro-batches that fit."""

from __future__ import annotations

from dataclasses import fields
from itertools import pairwise

import torch
from torch import Tensor

from policies.objectives.contracts import Batch, Totals


def mini_batches(group_B: Tensor, num: int) -> list[Tensor]:
    """Cut rows into at most `num` parts of whole groups, in the order in which the groups appear."""
    groups = list(dict.fromkeys(group_B.tolist()))
    num = min(num, len(groups))
    edges = [len(groups) * part // num for part in range(num + 1)]
    parts = [groups[start:end] for start, end in pairwise(edges)]
    return [torch.isin(group_B, torch.tensor(part)).nonzero()[:, 0] for part in parts]


def micro_batches(batch: Batch, rows: Tensor, most_tokens: int) -> list[Tensor]:
    """Cut rows into parts of at most `most_tokens` padded tokens, at least one row each.

    Rows are sorted, longest first, so that little is padding, and those without an advantage are kept apart: they
    often have no coefficient at all, and a micro-batch without any needs no backward pass.
    """
    length_B, silent_B = batch.length_B[rows], batch.advantage_B[rows] == 0
    by_length = length_B.argsort(descending=True, stable=True)
    order = by_length[silent_B[by_length].long().argsort(stable=True)]
    lengths, silent = length_B[order].tolist(), silent_B[order].tolist()
    parts, start = [], 0
    for end in range(1, len(order) + 1):
        is_last = end == len(order)
        if is_last or silent[end] != silent[start] or (end - start + 1) * lengths[start] > most_tokens:
            parts.append(rows[order[start:end]])
            start = end
    return parts


def totals_of(mask_BT: Tensor, mean_lp: float) -> Totals:
    """Count what one update holds, whatever it is cut into."""
    return Totals(num_tokens=int(mask_BT.sum()), num_sequences=int(mask_BT.any(-1).sum()), mean_lp=mean_lp)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Move all tensors of a batch."""
    return Batch(**{field.name: getattr(batch, field.name).to(device) for field in fields(Batch)})
