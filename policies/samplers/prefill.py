"""Reading prompts: each once, similar lengths together, a bounded number of tokens in one forward.

Dimension letters: U unique prompts of one chunk, K columns (the longest prompt), V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import Cache, DynamicCache

from policies.forward import call
from policies.policy import Policy
from policies.samplers.request_batches import Prompt


class PromptLayout(NamedTuple):
    """Prompts padded on the left, so that the token after each of them falls into one column."""

    ids_UK: Tensor  # int64, `pad_id` where the mask is False
    mask_UK: Tensor  # bool, True on the prompts' own tokens; padding is read by nothing that counts
    position_UK: Tensor  # int64, counted from each prompt's first token; 0 on padding


def left_padded(prompts: Sequence[Prompt], pad_id: int, device: torch.device) -> PromptLayout:
    """Lay prompts out as a rectangle that ends where they end.

    Positions are counted from the mask: without them the library would count the padding too, and rotary
    positions would be shifted, which looks plausible and is wrong.
    """
    width = max(map(len, prompts))
    ids_UK = [[pad_id] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    length_U1 = torch.tensor([[len(prompt)] for prompt in prompts], device=device)
    column_K = torch.arange(width, device=device) - width
    mask_UK = column_K >= -length_U1
    return PromptLayout(torch.tensor(ids_UK, device=device), mask_UK, (column_K + length_U1).clamp_(min=0))


def chunks(
    groups: Sequence[tuple[Prompt, int]], most_tokens: int | None
) -> Iterator[Sequence[tuple[Prompt, int]]]:
    """Cut prompts, each with its number of rows, into chunks of at most `most_tokens` padded tokens, in order.

    At least one prompt each: a longer one is cut by `read`. None: one chunk.
    """
    start = widest = 0
    for end, (prompt, _) in enumerate(groups):
        widest = max(widest, len(prompt))
        if most_tokens is not None and end > start and (end + 1 - start) * widest > most_tokens:
            yield groups[start:end]
            start, widest = end, len(prompt)
    yield groups[start:]


def read(policy: Policy, prompts: Sequence[Prompt], most_tokens: int | None) -> tuple[Cache, Tensor]:
    """Read prompts into a new cache, ended at one column, and give the logits [U, V] after each of them.

    `most_tokens` cuts them along their length too, where they have more; None: one forward.
    """
    ids_UK, mask_UK, position_UK = left_padded(prompts, policy.pad_id, policy.device)
    cache = DynamicCache(config=policy.model.config)
    width, is_padded = ids_UK.shape[1], min(map(len, prompts)) < ids_UK.shape[1]
    stride = width if most_tokens is None else max(1, most_tokens // len(prompts))
    for start in range(0, width, stride):
        end = min(start + stride, width)
        mask = mask_UK[:, :end] if is_padded else None
        logits_UV = next_logits(policy.model, ids_UK[:, start:end], mask, position_UK[:, start:end], cache)
    return cache, logits_UV


def next_logits(model: Any, ids: Tensor, mask: Tensor | None, positions: Tensor, cache: Cache) -> Tensor:
    """Feed tokens [rows, columns] behind those of a cache and give the logits [rows, V] after the last."""
    inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions, "past_key_values": cache}
    logits: Tensor = call(model, **inputs, use_cache=True, logits_to_keep=1).logits[:, -1]
    return logits
