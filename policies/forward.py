"""One forward pass over whole rows: log-probs and entropies of the tokens that the policy wrote.

Dimension letters: B rows, T tokens of the longest row, N masked tokens of all rows, F features (the last hidden
state), V vocabulary, K the likeliest of it. Logits are at least float32 before anything is reduced (2603.11682: rounded
log-probs bias the ratios) and divided by the sampling temperature: these are the log-probs the sampler drew with.

The head, by far the widest layer of a small model, sees the N tokens alone; where their logits would fill
`CHUNK_ELEMENTS` they are made a chunk at a time, and those of all chunks but one again in the backward pass. What is
made of them (`Reduction`) is one number a token: nothing as wide as the vocabulary leaves this module.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.modeling_layers import GradientCheckpointingLayer

from policies.errors import NonFiniteLogits, PolicyError

EntropyMode = Literal["none", "value", "grad"]

# Logits alive at a time: 256 MiB as float32, a few times that while they are reduced.
CHUNK_ELEMENTS = 1 << 26

NUCLEUS_TOKENS = 10_000  # most tokens of a nucleus (SIREN, arXiv 2509.25133)
MASS_UNITS = 2**52  # to a probability of 1: of integers no order of summing is another sum, on a GPU neither
MASS_TOLERANCE = 1e-6  # a nucleus is full this far below its mass: sums of float32 probabilities round
LARGE_VOCABULARY = 4096  # from here on arrays as wide as the vocabulary are what memory and time go to
FILTERED_OUT = -1e4  # log-prob of a token that the filter took out (Lp-Reg, arXiv 2510.03222)
FILTER_TOLERANCE = 1e-5  # nats below the filter's threshold that still pass: log-probs round
OTHER_HEADS = ("classifier", "summary")  # how options begin of heads that a causal language model does not have


@dataclass(frozen=True)
class Reduction:
    """What is made of the logits of each token, beside the log-prob of the one that was sampled."""

    temperature: float = 1.0  # logits are divided by it
    entropy: EntropyMode = "none"
    nucleus: float | None = None  # entropies are those of the likeliest tokens with this mass; None: of all
    kappa: float | None = None  # also the log-prob after a filter: tokens with p >= kappa * p_max stay


@dataclass(frozen=True)
class Scored:
    """What one pass found. Values off the mask are 0; nats, float32 (float64 from a float64 model)."""

    lp_BT: Tensor
    entropy_BT: Tensor | None  # of the distribution at each masked position, or of its nucleus
    lp_proxy_BT: Tensor | None = None  # after the filter, no gradient; FILTERED_OUT where it took the token

    @property
    def tensors(self) -> list[Tensor]:
        """Those that were asked for, in order."""
        return [one for one in (self.lp_BT, self.entropy_BT, self.lp_proxy_BT) if one is not None]

    def map(self, change: Callable[[Tensor], Tensor]) -> Scored:
        """Change all tensors."""
        others = (None if one is None else change(one) for one in (self.entropy_BT, self.lp_proxy_BT))
        return Scored(change(self.lp_BT), *others)


def score_rows(
    model: Any, ids_BT: Tensor, mask_BT: Tensor, temperature: float = 1.0, entropy: EntropyMode = "none"
) -> Scored:
    """Score the masked tokens of rows that are padded on the right."""
    features_NF, place_N = features_of(model, ids_BT, mask_BT)
    return score_features(model, features_NF, place_N, ids_BT, Reduction(temperature, entropy))


def features_of(model: Any, ids_BT: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Give the features [N, F] that predict the masked tokens, with the places of those in the flattened rows.

    No attention mask is needed: attention is causal, so padding is read by nothing that counts. Only the columns up
    to the last masked token are fed, and that token is not. The first token of a row cannot be masked, since nothing
    predicts it.
    """
    place_N = mask_BT.flatten().nonzero()[:, 0]
    if len(place_N) == 0:
        return torch.zeros(0, 1, device=ids_BT.device), place_N
    columns = mask_BT.any(0).nonzero()
    first, end = int(columns[0]), int(columns[-1]) + 1
    features_BTF = read(model, end - first, input_ids=ids_BT[:, : end - 1], use_cache=False)
    row_N, column_N = place_N // mask_BT.shape[1], place_N % mask_BT.shape[1]
    return features_BTF.flatten(0, 1).index_select(0, row_N * (end - first) + column_N - first), place_N


def score_features(model: Any, features_NF: Tensor, place_N: Tensor, ids_BT: Tensor, reduction: Reduction) -> Scored:
    """Score tokens by the features that predict them; `place_N` are their places in the flattened rows."""
    if len(place_N) == 0:
        zero_BT = torch.zeros(ids_BT.shape, device=ids_BT.device)
        entropy_BT = None if reduction.entropy == "none" else zero_BT
        return Scored(zero_BT, entropy_BT, None if reduction.kappa is None else zero_BT)
    head, target_N = head_of(model), ids_BT.flatten().index_select(0, place_N)
    num_logits = features_NF.shape[1] if head is None else head.weight.shape[0]
    most = max(1, CHUNK_ELEMENTS // num_logits)
    sizes = [len(features_NF) % most or most, *[most] * ((len(features_NF) - 1) // most)]
    # the backward pass begins with the last chunk, which is kept for it; the others are made again, one after another
    redone = partial(checkpoint, _reduce, use_reentrant=False, preserve_rng_state=False)
    reducing: list[Callable[..., Any]] = [*[redone] * (len(sizes) - 1), _reduce]
    chunks = zip(reducing, torch.split(features_NF, sizes), torch.split(target_N, sizes), strict=True)
    parts = [reduce(head, features, target, reduction) for reduce, features, target in chunks]
    reduced: list[Any] = [None if own[0] is None else torch.cat(own) for own in zip(*parts, strict=True)]
    return Scored(*reduced).map(
        lambda value_N: value_N.new_zeros(ids_BT.numel()).index_copy(0, place_N, value_N).view(ids_BT.shape)
    )


def read(model: Any, num_columns: int, **inputs: Any) -> Tensor:
    """Feed tokens; give the last columns' features [B, num_columns, F], which are logits for a model without a head."""
    if head_of(model) is None:
        logits: Tensor = call(model, logits_to_keep=num_columns, **inputs).logits
        return logits
    hidden_BTF: Tensor = model.base_model(**inputs).last_hidden_state
    return hidden_BTF[:, -num_columns:]


def head_of(model: Any) -> Any | None:
    """Find the layer that makes logits of last hidden states; None where something else has a say in them.

    Read in the library's source, and in no other: architectures that scale or cap their logits (Cohere, Granite, Gemma
    2 and 3, Falcon H1, xLSTM, ...) do it by a number that their configuration names after the logits or the head; heads
    of several layers (BERT, ModernBERT) are no child of the model beside its body alone.
    """
    kind, head = class_of(model), model.get_output_embeddings()
    is_known = kind.__module__.startswith("transformers.") and "logits_to_keep" in parameters_of(kind)
    if not is_known or head is None or {*model.children()} != {model.base_model, head}:
        return None
    config = model.config.get_text_config()
    scales = [
        getattr(config, name)
        for name in {*vars(config), *dir(config.__class__)}
        if "logit" in name or "lm_head" in name
    ]
    return head if all(isinstance(value, bool) or value in (None, 1) for value in scales) else None


def entropy_of(logprobs: Tensor, probabilities: Tensor | None = None) -> Tensor:
    """Compute the entropy of distributions given as log-probs over the last dimension; -inf counts as 0."""
    finite = logprobs.clamp(min=torch.finfo(logprobs.dtype).min)
    return -((logprobs.exp() if probabilities is None else probabilities) * finite).sum(-1)


def in_units(probabilities: Tensor) -> Tensor:
    """Give probabilities as int64, in units of which there are `MASS_UNITS` to 1."""
    return (probabilities * MASS_UNITS).long()


def nucleus_entropy(lp_NV: Tensor, mass: float) -> Tensor:
    """Compute the entropy [N] of each distribution's nucleus: the smallest set of likeliest tokens with this mass.

    Renormalised, and inside the likeliest `NUCLEUS_TOKENS`. Source: SIREN, arXiv 2509.25133, as the paper has it; the
    released code leaves out the token that crosses the mass.
    """
    most = min(NUCLEUS_TOKENS, lp_NV.shape[-1])
    num = min(64, most)  # of trained models far more than most nuclei need; a full sort would be dear
    while True:
        top_NK: Tensor = lp_NV.topk(num).values
        p_NK = top_NK.detach().exp()
        if num == most or bool((p_NK.sum(-1) >= mass).all()):
            break
        num = min(8 * num, most)
    units_NK = in_units(p_NK)
    is_out_NK = units_NK.cumsum(-1) - units_NK >= (mass - MASS_TOLERANCE) * MASS_UNITS  # the mass before is enough
    inside_NK = top_NK.masked_fill(is_out_NK, -math.inf).log_softmax(-1)
    return -(inside_NK.exp() * inside_NK.masked_fill(is_out_NK, 0.0)).sum(-1)


def filtered(lp_NV: Tensor, lp_N: Tensor, kappa: float) -> Tensor:
    """Give log-probs [N] without tokens of p < kappa * p_max (`FILTERED_OUT`), renormalised: arXiv 2510.03222."""
    least_N1 = lp_NV.amax(-1, keepdim=True) + (math.log(kappa) - FILTER_TOLERANCE)
    mass_N = lp_NV.masked_fill(lp_NV < least_N1, -math.inf).logsumexp(-1)
    return (lp_N - mass_N).masked_fill(lp_N < least_N1[:, 0], FILTERED_OUT)


def call(model: Any, *, logits_to_keep: int, **inputs: Any) -> Any:
    """Call a model for its last logits; what this architecture does not take is left out."""
    known = parameters_of(class_of(model))
    inputs = {name: value for name, value in inputs.items() if name in known or name == "input_ids"}
    if "logits_to_keep" in known:
        return model(**inputs, logits_to_keep=logits_to_keep)
    output = model(**inputs)
    output.logits = output.logits[:, -logits_to_keep:]
    return output


def class_of(model: Any) -> Any:
    """Give the class of an architecture, over which torch's `fully_shard` puts one of its own."""
    kind = model.__class__
    is_sharded = any(base.__name__ == "FSDPModule" for base in kind.__bases__)
    return kind.__bases__[-1] if is_sharded else kind


def has_plain_cache(model: Any) -> bool:
    """Whether every layer remembers keys and values of all tokens and nothing else."""
    layers = DynamicCache(config=model.config).layers
    return len(layers) > 0 and all(type(layer) is DynamicLayer for layer in layers)


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


def why_layers_are_kept(model: Any) -> str | None:
    """Say why the library does not recompute this model's layers to the same result; None: it does."""
    if not _recomputable_layers(model):
        return "has no layers that the library can recompute"
    if (key := _dropout(model)) is not None:
        return f"has dropout ({key}); set it to 0 in config.json"
    return None


def _recomputable_layers(model: Any) -> list[GradientCheckpointingLayer]:
    return [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]


def _dropout(model: Any) -> str | None:
    """Name an option of a model that switches dropout on; None: there is none."""
    for key, own in model.config.to_dict().items():
        if "drop" in key and not key.startswith(OTHER_HEADS) and type(own) in (int, float) and own > 0:
            return str(key)
    return None


@contextmanager
def recomputing_layers(model: Any, name: str) -> Iterator[None]:
    """Activation checkpointing: have the layers of a model redo their forward in the backward pass.

    The library recomputes only layers in training mode, so these are switched on, and what is inside them stays in eval
    mode. A model with dropout is refused: log-probs would no longer be the sampler's.
    """
    if (why := why_layers_are_kept(model)) is not None:
        raise PolicyError(f"activation_checkpointing: {name} {why}")
    layers = _recomputable_layers(model)
    redone = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
    for layer in layers:
        layer.gradient_checkpointing, layer.training, layer._gradient_checkpointing_func = True, True, redone
    try:
        yield
    finally:
        for layer in layers:
            layer.gradient_checkpointing = layer.training = False


def require_finite(logprobs: Sequence[NDArray[np.float32]], version: int, where: str) -> None:
    """Refuse log-probs of which any is not finite: one array [T] a row, of the tokens that the policy wrote.

    They alone show a NaN or infinite logit: it makes every log-prob of its row NaN, or that of the drawn token -inf.
    Raises `NonFiniteLogits`: it counts the rows and says `where` it was; `version` is that of the weights.
    """
    places = [np.flatnonzero(~np.isfinite(row)) for row in logprobs]
    first = [int(of_row[0]) for of_row in places if len(of_row)]
    if first:
        raise NonFiniteLogits(
            f"non-finite logits in {len(first)} of {len(logprobs)} rows {where}, first at token {min(first) + 1} of an "
            "answer",
            version,
        )


def _reduce(
    head: Any | None, features_NF: Tensor, target_N: Tensor, reduction: Reduction
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Reduce features to the numbers [N] of `Scored`."""
    logits_NV = features_NF if head is None else head(features_NF)
    if logits_NV.dtype != torch.float64:
        logits_NV = logits_NV.float()
    if reduction.temperature != 1:
        logits_NV = logits_NV / reduction.temperature
    if logits_NV.shape[-1] >= LARGE_VOCABULARY and reduction.entropy != "grad":
        lp_N, lp_NV = _TargetLogprob.apply(logits_NV, target_N)  # type: ignore[no-untyped-call]
    else:
        lp_NV = torch.log_softmax(logits_NV, dim=-1)
        lp_N = lp_NV.gather(-1, target_N[:, None])[:, 0]
    proxy_N = entropy_N = None
    if reduction.kappa is not None:
        proxy_N = filtered(lp_NV.detach(), lp_N.detach(), reduction.kappa)
    if reduction.entropy != "none":
        seen_NV = lp_NV if reduction.entropy == "grad" else lp_NV.detach()
        mass = reduction.nucleus
        entropy_N = entropy_of(seen_NV) if mass is None else nucleus_entropy(seen_NV, mass)
    return lp_N, entropy_N, proxy_N


class _TargetLogprob(torch.autograd.Function):
    """Log-probs of the targets [N], and of all tokens [N, V] without a gradient.

    d lp_n / d logit_v = 1[v = target] - p_v, which the backward pass writes over the log-probs that the forward pass
    kept: of arrays as wide as the vocabulary there are two less than autograd would make. One backward pass only.
    """

    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, target_N: Tensor) -> tuple[Tensor, Tensor]:
        lp_NV = torch.log_softmax(logits_NV, dim=-1)
        ctx.save_for_backward(lp_NV, target_N)
        ctx.mark_non_differentiable(lp_NV)
        return lp_NV.gather(-1, target_N[:, None])[:, 0], lp_NV

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_N: Tensor, _: Tensor) -> tuple[Tensor, None]:
        lp_NV, target_N = ctx.saved_tensors
        grad_NV = lp_NV.exp_().mul_(-grad_N[:, None])
        return grad_NV.scatter_add_(-1, target_N[:, None], grad_N[:, None]), None
