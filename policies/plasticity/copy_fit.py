"""Fitting a copy to given tokens: what the supervised probe and the random-label probe have in common.

Dimension letters: B rows, T tokens of the longest row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from policies.forward import evaluating, score_rows
from policies.optimizer import Optimizer
from policies.plasticity.curves import BETAS, CLIP_NORM, Budget, Curve, require_finite_loss
from policies.policy import Policy


@dataclass(frozen=True)
class Rows:
    """Rows of tokens, padded on the right, and which of them are to be predicted; on the CPU."""

    ids_BT: Tensor  # int64
    mask_BT: Tensor  # bool, never True on the first token

    def take(self, rows: Tensor) -> Rows:
        """Take some rows."""
        return Rows(self.ids_BT[rows], self.mask_BT[rows])

    def parts(self, micro_tokens: int) -> Iterator[Rows]:
        """Cut them into parts of at most so many tokens, at least a row each."""
        size = max(1, micro_tokens // self.ids_BT.shape[1])
        for part in range(ceil(len(self.ids_BT) / size)):
            at = slice(part * size, (part + 1) * size)
            yield Rows(self.ids_BT[at], self.mask_BT[at])


def fit(copy: Policy, batches: Iterator[Rows], budget: Budget, curve: Curve) -> Iterator[int]:
    """Train a copy on one batch a step, cross entropy as mean over the tokens to predict; yields the steps done, from
    0.

    The optimiser is fresh; updates that it refuses are counted in the curve. `loss` and `grad_norm` of every step are
    noted there, looks are the caller's. Raises `NonFiniteLogits` when the copy has diverged.
    """
    optimizer = Optimizer(copy.model, BETAS, 0.0, CLIP_NORM)
    yield 0
    for step in range(1, budget.steps + 1):
        batch = next(batches)
        num = batch.mask_BT.sum()
        total = 0.0
        with evaluating(copy.model), copy.deterministic():
            for part in batch.parts(budget.micro_tokens):
                scored = score_rows(copy.model, part.ids_BT.to(copy.device), part.mask_BT.to(copy.device))
                loss = -scored.lp_BT.sum() / num
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.gather_gradients()
                total += float(loss.detach())
        require_finite_loss(total, step)
        norm, is_done = optimizer.step(budget.rate(step))
        curve.count(is_done, not is_done)
        curve.note(loss=total, grad_norm=norm)
        yield step


def rounds(num: int, batch: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Draw batches of places: every place once before any comes again, and none twice in a batch."""
    left, size = np.zeros(0, np.int64), min(batch, num)
    while True:
        if len(left) < size:
            order = rng.permutation(num)
            is_left = np.isin(order, left)  # they come again after all others
            left = np.concatenate([left, order[~is_left], order[is_left]])
        yield left[:size]
        left = left[size:]


@torch.no_grad()
def look_at(copy: Policy, rows: Rows, micro_tokens: int) -> dict[str, float]:
    """Measure the mean loss and the mean entropy at the tokens to predict, in nats."""
    loss = entropy = 0.0
    with evaluating(copy.model):
        for part in rows.parts(micro_tokens):
            ids_BT, mask_BT = part.ids_BT.to(copy.device), part.mask_BT.to(copy.device)
            scored = score_rows(copy.model, ids_BT, mask_BT, entropy="value")
            assert scored.entropy_BT is not None
            loss -= float(scored.lp_BT.double().sum())
            entropy += float(scored.entropy_BT.double().sum())
    num = int(rows.mask_BT.sum())
    return {"loss": loss / num, "entropy": entropy / num}


def ordinary_tokens(policy: Policy) -> list[int]:
    """List the tokens that are no special ones, ascending."""
    special = {*policy.tokenizer.all_special_ids}
    num = min(len(policy.tokenizer), policy.model.get_input_embeddings().weight.shape[0])
    return [token for token in range(num) if token not in special]
