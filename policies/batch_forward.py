"""Passes over a batch, a micro-batch at a time: of the policy or of another model, with gradient or without.

Dimension letters: B rows, T tokens of the longest row, N masked tokens, F features.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from policies.forward import Reduction, Scored, features_of, score_features
from policies.micro_batches import (
    FORWARD_TOKENS_CPU,
    FORWARD_TOKENS_ELSEWHERE,
    MicroBatch,
    MicroBatcher,
    SharedOpenings,
    to_device,
)
from policies.objectives.contracts import Batch
from policies.shared_prompts import shared_features


def cutter_of(batch: Batch, most_tokens: int, may_share: bool, device: torch.device) -> MicroBatcher:
    """Look at a batch to cut it for a device."""
    forward_tokens = FORWARD_TOKENS_CPU if device.type == "cpu" else FORWARD_TOKENS_ELSEWHERE
    return MicroBatcher(SharedOpenings.of(batch), most_tokens, forward_tokens, may_share)


def micro_features(model: Any, rows: Batch, micro: MicroBatch) -> tuple[Tensor, Tensor]:
    """Give the features [N, F] that predict masked tokens, with the places of those in the flattened rows."""
    if micro.sharing is None:
        return features_of(model, rows.ids_BT, rows.mask_BT)
    return shared_features(model, rows.ids_BT, rows.mask_BT, micro.sharing.to(rows.ids_BT.device))


def score_micro(model: Any, rows: Batch, micro: MicroBatch, reduction: Reduction) -> Scored:
    """Run one micro-batch through a model; `rows` are its rows, on the model's device."""
    features_NF, place_N = micro_features(model, rows, micro)
    return score_features(model, features_NF, place_N, rows.ids_BT, reduction)


@torch.no_grad()
def score_batch(
    model: Any, device: torch.device, batch: Batch, cut: Iterable[MicroBatch], reduction: Reduction
) -> Scored:
    """Run micro-batches of a batch through a model; numbers [B, T] of all rows, on the CPU, 0 where none was run."""
    whole = _zeros(batch.mask_BT.shape, next(model.parameters()).dtype, reduction)
    for micro in cut:
        scored = score_micro(model, to_device(batch.take(micro.rows), device), micro, reduction)
        for into_BT, own_BT in zip(whole.tensors, scored.tensors, strict=True):
            into_BT[micro.rows, : own_BT.shape[1]] = own_BT.cpu()
    return whole


def _zeros(shape: torch.Size, dtype: torch.dtype, reduction: Reduction) -> Scored:
    """Make room for what the reduction gives, in the precision that it gives it in."""
    lp_BT, entropy_BT, lp_proxy_BT = torch.zeros(3, *shape, dtype=torch.promote_types(dtype, torch.float32))
    has_entropy, has_proxy = reduction.entropy != "none", reduction.kappa is not None
    return Scored(lp_BT, entropy_BT if has_entropy else None, lp_proxy_BT if has_proxy else None)
