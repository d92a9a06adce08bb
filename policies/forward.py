"""One forward pass over whole rows: log-probs and entropies of the tokens that the policy wrote.

Dimension letters: B rows, T tokens of the longest row, N masked tokens of all rows, F features (the last hidden
state), V vocabulary. Whatever the model's dtype, logits are at least float32 before anything is reduced (2603.11682:
rounded log-probs bias the ratios), and they are divided by the sampling temperature, so that these are the log-probs
the sampler drew with.

The head is the widest layer of a small model by far, so it sees the N tokens that count and nothing else; where their
logits would fill `CHUNK_ELEMENTS` they are made a chunk at a time, and again in the backward pass.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

EntropyMode = Literal["none", "value", "grad"]

# Logits alive at a time: 256 MiB as float32, a few times that while they are reduced.
CHUNK_ELEMENTS = 1 << 26


@dataclass(frozen=True)
class Scored:
    """What one pass found. Values off the mask are 0; nats, float32 (float64 from a float64 model)."""

    lp_BT: Tensor
    entropy_BT: Tensor | None  # of the full distribution at each masked position


def score_rows(
    model: Any, ids_BT: Tensor, mask_BT: Tensor, temperature: float = 1.0, entropy: EntropyMode = "none"
) -> Scored:
    """Score the masked tokens of rows that are padded on the right.

    No attention mask is needed: attention is causal, so padding is read by nothing that counts. Only the columns up
    to the last masked token are fed, and that token is not. The first token of a row cannot be masked, since nothing
    predicts it.
    """
    place_N = mask_BT.flatten().nonzero()[:, 0]
    if len(place_N) == 0:
        nothing = torch.zeros(mask_BT.shape, device=ids_BT.device)
        return Scored(nothing, None if entropy == "none" else nothing)
    columns = mask_BT.any(0).nonzero()
    first, end = int(columns[0]), int(columns[-1]) + 1
    features_BTF = read(model, end - first, input_ids=ids_BT[:, : end - 1], use_cache=False)
    row_N, column_N = place_N // mask_BT.shape[1], place_N % mask_BT.shape[1]
    features_NF = features_BTF.flatten(0, 1).index_select(0, row_N * (end - first) + column_N - first)
    return score_features(model, features_NF, place_N, ids_BT, temperature, entropy)


def score_features(
    model: Any, features_NF: Tensor, place_N: Tensor, ids_BT: Tensor, temperature: float, entropy: EntropyMode
) -> Scored:
    """Score tokens by the features that predict them; `place_N` are their places in the flattened rows."""
    target_N = ids_BT.flatten().index_select(0, place_N)
    lp_N, entropy_N = _reduce_in_chunks(head_of(model), features_NF, target_N, temperature, entropy)
    lp_BT = _spread(lp_N, place_N, ids_BT.shape)
    return Scored(lp_BT, None if entropy_N is None else _spread(entropy_N, place_N, ids_BT.shape))


def read(model: Any, num_columns: int, **inputs: Any) -> Tensor:
    """Feed tokens and give the features [B, num_columns, F] of the last columns.

    They are what `head_of(model)` takes; for a model without such a head they are the logits themselves.
    """
    if head_of(model) is None:
        logits: Tensor = call(model, logits_to_keep=num_columns, **inputs).logits
        return logits
    hidden_BTF: Tensor = model.base_model(**inputs).last_hidden_state
    return hidden_BTF[:, -num_columns:]


def head_of(model: Any) -> Any | None:
    """Find the layer that makes logits of last hidden states; None where something else has a say in them.

    Read in the library's source: architectures that scale or cap their logits (Cohere, Granite, Gemma 2 and 3, Falcon
    H1, xLSTM, ...) all do it by a number that their configuration names after the logits or the head, and heads of
    several layers (BERT, ModernBERT) are no child of the model beside its body alone. Architectures from elsewhere
    were not read.
    """
    kind, head = model.__class__, model.get_output_embeddings()
    is_known = kind.__module__.startswith("transformers.") and "logits_to_keep" in parameters_of(kind)
    if not is_known or head is None or {*model.children()} != {model.base_model, head}:
        return None
    config = model.config.get_text_config()
    names = {*vars(config), *_names(config.__class__)}
    scales = [getattr(config, name) for name in names if "logit" in name or "lm_head" in name]
    return head if all(isinstance(value, bool) or value in (None, 1) for value in scales) else None


def entropy_of(logprobs: Tensor) -> Tensor:
    """Compute the entropy of distributions given as log-probs over the last dimension; -inf counts as 0."""
    finite = logprobs.clamp(min=torch.finfo(logprobs.dtype).min)
    return -(logprobs.exp() * finite).sum(-1)


def call(model: Any, *, logits_to_keep: int, **inputs: Any) -> Any:
    """Call a model for its last logits; what this architecture does not take is left out."""
    known = parameters_of(model.__class__)
    inputs = {name: value for name, value in inputs.items() if name in known or name == "input_ids"}
    if "logits_to_keep" in known:
        return model(**inputs, logits_to_keep=logits_to_keep)
    output = model(**inputs)
    output.logits = output.logits[:, -logits_to_keep:]
    return output


@cache
def parameters_of(model_class: Any) -> frozenset[str]:
    """Name what the forward of an architecture takes."""
    return frozenset(inspect.signature(model_class.forward).parameters)


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Switch dropout off inside the block; afterwards every module is in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


@cache
def _names(config_class: Any) -> tuple[str, ...]:
    return tuple(dir(config_class))


def _reduce_in_chunks(
    head: Any | None, features_NF: Tensor, target_N: Tensor, temperature: float, entropy: EntropyMode
) -> tuple[Tensor, Tensor | None]:
    """Reduce features to log-probs and entropies; many a chunk of tokens at a time, redone in the backward."""
    num_logits = features_NF.shape[1] if head is None else head.weight.shape[0]
    most = max(1, CHUNK_ELEMENTS // num_logits)
    if len(features_NF) <= most:
        return _reduce(head, features_NF, target_N, temperature, entropy)
    redone = partial(checkpoint, _reduce, head, use_reentrant=False, preserve_rng_state=False)
    parts = [
        redone(features, target, temperature, entropy)
        for features, target in zip(torch.split(features_NF, most), torch.split(target_N, most), strict=True)
    ]
    lp_N = torch.cat([lp for lp, _ in parts])
    return lp_N, None if entropy == "none" else torch.cat([h for _, h in parts])


def _reduce(
    head: Any | None, features_NF: Tensor, target_N: Tensor, temperature: float, entropy: EntropyMode
) -> tuple[Tensor, Tensor | None]:
    logits_NV = features_NF if head is None else head(features_NF)
    if logits_NV.dtype != torch.float64:
        logits_NV = logits_NV.float()
    lp_NV = torch.log_softmax(logits_NV if temperature == 1 else logits_NV / temperature, dim=-1)
    lp_N = lp_NV.gather(-1, target_N[:, None])[:, 0]
    if entropy == "none":
        return lp_N, None
    return lp_N, entropy_of(lp_NV if entropy == "grad" else lp_NV.detach())


def _spread(values_N: Tensor, place_N: Tensor, shape: torch.Size) -> Tensor:
    """Put the values of masked tokens back to their places."""
    return values_N.new_zeros(shape.numel()).index_copy(0, place_N, values_N).view(shape)
