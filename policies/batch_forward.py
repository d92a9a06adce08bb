"""Whole batches through a model, a micro-batch at a time, with gradient or without.

Dimension letters: B rows, T tokens of the longest row, N masked tokens, F features.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from policies.forward import (
    Reduction,
    Scored,
    evaluating,
    features_of,
    recomputing_layers,
    require_finite,
    score_features,
)
from policies.micro_batches import MicroBatch, MicroBatcher, to_device
from policies.objectives.contracts import Batch
from policies.policy import Policy
from policies.shared_prompts import can_share, shared_features


@dataclass
class ForwardPasses:
    """Passes of one policy's model over batches."""

    policy: Policy
    temperature: float  # logits are divided by it
    micro_tokens: int  # padded tokens in one forward
    recomputes: bool = False  # its layers, in the backward pass; they read no keys and values of before

    def __post_init__(self) -> None:
        self.may_share = not self.recomputes and can_share(self.policy.model)

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """Have the model as passes need it: dropout off, layers recomputed if asked."""
        model = self.policy.model
        layers = recomputing_layers(model, self.policy.name) if self.recomputes else nullcontext()
        with evaluating(model), layers:
            yield

    def batcher(self, batch: Batch) -> MicroBatcher:
        """Look at a batch to cut it for the model's device."""
        return MicroBatcher.of(batch, self.micro_tokens, self.may_share, self.policy.device)

    @torch.no_grad()
    def score(self, batch: Batch, cut: Iterable[MicroBatch], reduction: Reduction | None = None) -> Scored:
        """Score micro-batches of a batch: numbers [B, T] of all rows, on the CPU, 0 where none was run."""
        model, reduction = self.policy.model, reduction or Reduction(self.temperature)
        # in the precision that the reduction gives
        dtype = torch.promote_types(next(model.parameters()).dtype, torch.float32)
        lp_BT, entropy_BT, lp_proxy_BT = torch.zeros(3, *batch.mask_BT.shape, dtype=dtype)
        has_entropy, has_proxy = reduction.entropy != "none", reduction.kappa is not None
        whole = Scored(lp_BT, entropy_BT if has_entropy else None, lp_proxy_BT if has_proxy else None)
        for micro in cut:
            scored = score_micro(
                model, to_device(batch.take(micro.rows), self.policy.device), micro, reduction
            )
            for into_BT, own_BT in zip(whole.tensors, scored.tensors, strict=True):
                into_BT[micro.rows, : own_BT.shape[1]] = own_BT.cpu()
        return whole

    def finite_lp(self, batch: Batch, rows: Tensor, version: int, where: str) -> Tensor:
        """Score rows of a batch: log-probs [B, T], on the CPU.

        Raises:
            NonFiniteLogits: some are not finite; `version` of the weights and `where` are for its text.
        """
        lp_BT = self.score(batch, self.batcher(batch).cut(rows)).lp_BT
        mask_BT = batch.mask_BT.cpu()
        require_finite([lp_BT[row][mask_BT[row]].numpy() for row in rows.tolist()], version, where)
        return lp_BT


def micro_features(model: Any, rows: Batch, micro: MicroBatch) -> tuple[Tensor, Tensor]:
    """Give the features [N, F] that predict masked tokens, with the places of those in the flattened rows."""
    if micro.sharing is None:
        return features_of(model, rows.ids_BT, rows.mask_BT)
    return shared_features(model, rows.ids_BT, rows.mask_BT, micro.sharing.to(rows.ids_BT.device))


def score_micro(model: Any, rows: Batch, micro: MicroBatch, reduction: Reduction) -> Scored:
    """Run one micro-batch through a model; `rows` are its rows, on the model's device."""
    features_NF, place_N = micro_features(model, rows, micro)
    return score_features(model, features_NF, place_N, rows.ids_BT, reduction)
