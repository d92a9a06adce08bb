"""Attention of one new token a row, registered with the library and switched on for the decode loop only.

Dimension letters: R rows, H query heads, J key-value heads, Q queries, K columns, D head dimension.

The library repeats keys and values for every query head before a masked attention, at every token; here the query
heads that share keys are the queries of one small matrix product. On a CPU in float32 plain matrix products take half
the time of the fused kernel, which is made for many queries a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

NAME = "evergreen_one_token"


@contextmanager
def one_token_attention(model: Any) -> Iterator[None]:
    """Let a model that uses the library's `sdpa` attend this way inside the block."""
    config = model.config.get_text_config()
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before


def attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Attend from [R, H, 1, D] to keys and values [R, J, K, D]; gives [R, 1, H, D].

    `attention_mask` [R, 1, 1, K] is added to the scores. What this does not know goes to the library.
    """
    is_shared = attention_mask is None or attention_mask.shape[1] == 1  # by the heads
    if query.shape[2] > 1 or not is_shared or options.get("position_bias") is not None:
        output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return output, None
    scale = options.get("scaling") or query.shape[-1] ** -0.5
    query_RJQD = query.reshape(len(query), key.shape[1], -1, query.shape[-1])
    if query.dtype == torch.float32 and query.device.type == "cpu":
        score_RJQK = torch.matmul(query_RJQD, key.mT).mul_(scale)
        if attention_mask is not None:
            score_RJQK += attention_mask
        output_RJQD = torch.matmul(score_RJQK.softmax(-1), value)
    else:
        output_RJQD = torch.nn.functional.scaled_dot_product_attention(
            query_RJQD, key, value, attn_mask=attention_mask, scale=scale
        )
    return output_RJQD.reshape(len(query), 1, query.shape[1], value.shape[-1]), None


AttentionInterface.register(NAME, attend)
