"""One forward pass over whole rows: log-probs and entropies of the tokens that the policy wrote.

Dimension letters: B rows, T tokens of the longest row, N masked tokens of all rows, V vocabulary. Whatever the
model's dtype, logits are float32 before anything is reduced (2603.11682: rounded log-probs bias the ratios), and
they are divided by the sampling temperature, so that these are the log-probs the sampler drew with.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

EntropyMode = Literal["none", "value", "grad"]

CHUNK_ELEMENTS = (
    1 << 27
)  # above this many logits (512 MiB as float32) the log-softmax is done in recomputed chunks


@dataclass(frozen=True)
class Scored:
    """What one pass found. Values off the mask are 0; float32, nats."""

    lp_BT: Tensor
    entropy_BT: Tensor | None  # of the full distribution at each masked position


def score_rows(
    model: Any, ids_BT: Tensor, mask_BT: Tensor, temperature: float = 1.0, entropy: EntropyMode = "none"
) -> Scored:
    """Score the masked tokens of rows that are padded on the right.

    No attention mask is needed: attention is causal, so padding is read by nothing that counts. Only the columns
    between the first and the last masked token go through the head, and the last token is never fed at all.
    The first token of a row cannot be masked, since nothing predicts it.
    """
    columns = mask_BT.any(0).nonzero()
    if len(columns) == 0:
        nothing = torch.zeros(mask_BT.shape, device=ids_BT.device)
        return Scored(nothing, None if entropy == "none" else nothing)
    first, end = int(columns[0]), int(columns[-1]) + 1
    keep_BT = mask_BT[:, first:end]
    logits_BTV = call(
        model, input_ids=ids_BT[:, : end - 1], logits_to_keep=end - first, use_cache=False
    ).logits
    lp_N, entropy_N = _reduce_in_chunks(
        logits_BTV[keep_BT], ids_BT[:, first:end][keep_BT], temperature, entropy
    )
    return Scored(_spread(lp_N, mask_BT), None if entropy_N is None else _spread(entropy_N, mask_BT))


def entropy_of(logprobs: Tensor) -> Tensor:
    """Compute the entropy of distributions given as log-probs over the last dimension; -inf counts as 0."""
    finite = logprobs.clamp(min=torch.finfo(logprobs.dtype).min)
    return -(logprobs.exp() * finite).sum(-1)


def call(model: Any, *, logits_to_keep: int, **inputs: Any) -> Any:
    """Call a model for its last logits; what this architecture does not take is left out."""
    known = _parameters(model.__class__)
    inputs = {name: value for name, value in inputs.items() if name in known or name == "input_ids"}
    if "logits_to_keep" in known:
        return model(**inputs, logits_to_keep=logits_to_keep)
    output = model(**inputs)
    output.logits = output.logits[:, -logits_to_keep:]
    return output


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Switch dropout off inside the block; afterwards every module is in the mode it was in."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@cache
def _parameters(model_class: Any) -> frozenset[str]:
    return frozenset(inspect.signature(model_class.forward).parameters)


def _reduce_in_chunks(
    logits_NV: Tensor, target_N: Tensor, temperature: float, entropy: EntropyMode
) -> tuple[Tensor, Tensor | None]:
    """Reduce logits to log-probs and entropies; large ones a chunk of tokens at a time, redone in the backward."""
    rows = max(1, CHUNK_ELEMENTS // logits_NV.shape[1])
    if len(logits_NV) <= rows:
        return _reduce(logits_NV, target_N, temperature, entropy)
    parts = [
        checkpoint(
            _reduce, logits, target, temperature, entropy, use_reentrant=False, preserve_rng_state=False
        )
        for logits, target in zip(torch.split(logits_NV, rows), torch.split(target_N, rows), strict=True)
    ]
    lp_N = torch.cat([lp for lp, _ in parts])
    return lp_N, None if entropy == "none" else torch.cat([h for _, h in parts])


def _reduce(
    logits_NV: Tensor, target_N: Tensor, temperature: float, entropy: EntropyMode
) -> tuple[Tensor, Tensor | None]:
    lp_NV = torch.log_softmax(logits_NV.float() / temperature, dim=-1)
    lp_N = lp_NV.gather(-1, target_N[:, None])[:, 0]
    if entropy == "none":
        return lp_N, None
    return lp_N, entropy_of(lp_NV if entropy == "grad" else lp_NV.detach())


def _spread(values_N: Tensor, mask_BT: Tensor) -> Tensor:
    """Put the values of masked tokens back to their places."""
    return torch.zeros(mask_BT.shape, device=values_N.device).masked_scatter(mask_BT, values_N)
