"""Reading prompts: each once, similar lengths together, a bounded number of tokens in one forward.

Dimension letters: U unique prompts of one chunk, K columns, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor
from transformers import Cache, DynamicCache

from policies.forward import call
from policies.policy import Policy
from policies.prompt_layout import left_padded
from policies.samplers.request_batches import Prompt


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
        logits_UV = next_logits(
            policy.model,
            ids_UK[:, start:end],
            mask_UK[:, :end] if is_padded else None,
            position_UK[:, start:end],
            cache,
        )
    return cache, logits_UV


def next_logits(model: Any, ids: Tensor, mask: Tensor | None, positions: Tensor, cache: Cache) -> Tensor:
    """Feed tokens [rows, columns] behind those of a cache and give the logits [rows, V] after the last."""
    output = call(
        model,
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    logits: Tensor = output.logits[:, -1]
    return logits
