"""Keys and values of a batch of rows while it is decoded: the library's growing cache, or a static one of ours.

Dimension letters: R rows, U unique prompts, H query heads, J key-value heads, Q queries, K columns, D head dimension.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, Cache, DynamicCache
from transformers.cache_utils import CacheLayerMixin
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from policies.forward import has_plain_cache
from policies.policy import Policy
from policies.samplers.contracts import Request

FEWEST_NEW = 16  # columns that room is made for at once; an eighth of those there are, once that is more
ATTENTION = "evergreen_one_token"


class LibraryCache:
    """The library's own growing cache: right for every architecture it supports, and slower than a static one."""

    past: Cache  # what the model reads and writes
    takes_parts = False  # whether prompts may be read in parts, one `fill` each

    def __init__(self, policy: Policy, requests: Sequence[Request]) -> None:
        lengths = [len(request.ids) for request in requests]
        self.end = max(lengths)
        self.mask_RK: Tensor | None = None
        if min(lengths) < self.end:
            most = self.end + max(request.budget for request in requests)
            length_R1 = torch.tensor([lengths], device=policy.device).T
            self.mask_RK = torch.arange(most, device=policy.device) >= self.end - length_R1

    def fill(self, prompts: Cache, group_size_U: Tensor) -> None:
        """Give the next rows their copies of prompts that a cache has just read, so many rows a prompt."""
        self.past = prompts
        place_U = torch.arange(len(group_size_U), device=group_size_U.device)
        self.past.reorder_cache(place_U.repeat_interleave(group_size_U))
        if self.mask_RK is not None:  # or the library asks at each token whether the mask hides anything, and waits
            for layer in self.past.layers:
                layer.is_compileable = True

    def attending(self) -> AbstractContextManager[None]:
        """Set the model up for decoding with this cache, while a block lasts: here nothing."""
        return nullcontext()

    def next_column(self) -> Tensor | None:
        """Begin a token; give the attention mask [R, K] of the columns so far, None: every row attends to all."""
        self.end += 1
        return None if self.mask_RK is None else self.mask_RK[:, : self.end]

    def keep(self, kept_R: Tensor) -> None:
        """Go on with these rows, in this order."""
        self.past.reorder_cache(kept_R)
        if self.mask_RK is not None:
            self.mask_RK = self.mask_RK[kept_R]


def fits_static_cache(model: Any) -> bool:
    """Whether every layer remembers keys and values of all tokens and nothing else, and takes our attention."""
    takes_ours = model._supports_attention_backend and model.config._attn_implementation == "sdpa"
    return has_plain_cache(model) and bool(takes_ours)


class StaticCache:
    """Keys and values of plain attention in one block of memory a layer, written in place.

    A growing cache copies everything at every token. Here all rows write one column, room is made a stretch of columns
    at a time, and rows that leave are overwritten by rows from the end. The model is given the whole block with a mask
    on what is not written yet: a view of the rest takes longer (on a CPU 40 columns of 44 twice the time of 40 of 40).
    """

    takes_parts = True

    def __init__(self, policy: Policy, requests: Sequence[Request]) -> None:
        self.model = policy.model
        num_layers = len(DynamicCache(config=policy.model.config).layers)
        width, budget = max(len(r.ids) for r in requests), max(r.budget for r in requests)
        self.end, self.capacity, self.most = width, width, width + budget - 1  # the last token is never fed
        self.layers = [StaticCacheLayer(len(requests), width) for _ in range(num_layers)]
        self.past: Cache = Cache(layers=self.layers)
        shape, least = (len(requests), self.most), torch.finfo(policy.dtype).min
        self.bias_RK = torch.full(shape, least, dtype=policy.dtype, device=policy.device)
        column_K = torch.arange(width, device=policy.device)
        length_R1 = torch.tensor([[len(r.ids)] for r in requests], device=policy.device)
        self.bias_RK[:, :width].masked_fill_(column_K >= width - length_R1, 0)

    def fill(self, prompts: Cache, group_size_U: Tensor) -> None:
        """Copy each prompt to the next rows."""
        for mine, theirs in zip(self.layers, prompts.layers, strict=True):
            mine.fill(theirs, group_size_U)

    @contextmanager
    def attending(self) -> Iterator[None]:
        """Use attention of one new token a row, while a block lasts; the model uses the library's `sdpa`."""
        config = self.model.config.get_text_config()
        before, config._attn_implementation = config._attn_implementation, ATTENTION
        try:
            yield
        finally:
            config._attn_implementation = before

    def next_column(self) -> Tensor:
        """Make room for one more token a row; gives what is to be added to the scores, [R, 1, 1, K]."""
        if self.end == self.capacity:
            self.capacity = min(self.capacity + max(FEWEST_NEW, self.capacity // 8), self.most)
            for layer in self.layers:
                layer.grow(self.capacity)
        self.bias_RK[:, self.end] = 0
        self.end += 1
        return self.bias_RK[:, None, None, : self.capacity]

    def keep(self, kept_R: Tensor) -> None:
        """Move rows to their new places; those that stay where they are cost nothing."""
        to_R = (kept_R != torch.arange(len(kept_R), device=kept_R.device)).nonzero()[:, 0]
        from_R = kept_R[to_R]
        self.bias_RK = _moved(self.bias_RK, len(kept_R), to_R, from_R)
        for layer in self.layers:
            layer.keys = _moved(layer.keys, len(kept_R), to_R, from_R)
            layer.values = _moved(layer.values, len(kept_R), to_R, from_R)


class StaticCacheLayer(CacheLayerMixin):  # type: ignore[misc]  # not typed
    """Keys and values of one layer, [R, J, K, D] each; what is not written yet is zero."""

    keys: Tensor
    values: Tensor
    is_sliding = False

    def __init__(self, num_rows: int, width: int) -> None:
        super().__init__()
        self.num_rows, self.num_filled, self.end = num_rows, 0, width

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Allocate, after states of any number of rows; keys and values may differ in D."""
        shape = self.num_rows, key_states.shape[1], self.end
        self.keys, self.values = (one.new_empty(*shape, one.shape[3]) for one in (key_states, value_states))
        self.is_initialized = True

    def fill(self, prompts: Any, group_size_U: Tensor) -> None:
        """Copy prompts to the next rows. Zeros fill up: masked columns weigh 0, but 0 times rubbish may be NaN."""
        if not self.is_initialized:
            self.lazy_initialization(prompts.keys, prompts.values)
        start = self.end - prompts.keys.shape[2]
        for mine, theirs in ((self.keys, prompts.keys), (self.values, prompts.values)):
            rows = theirs.repeat_interleave(group_size_U, dim=0)
            block = mine[self.num_filled : self.num_filled + len(rows)]
            block[:, :, :start], block[:, :, start:] = 0, rows
        self.num_filled += len(rows)

    def grow(self, num_columns: int) -> None:
        """Make room for so many columns in all."""
        added = (0, 0, 0, num_columns - self.keys.shape[2])
        self.keys, self.values = (torch.nn.functional.pad(one, added) for one in (self.keys, self.values))

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the next column and give them all."""
        self.keys[:, :, self.end] = key_states[:, :, 0]
        self.values[:, :, self.end] = value_states[:, :, 0]
        self.end += 1
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Columns written."""
        return self.end

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Columns given to the model, and the number of the first."""
        return self.keys.shape[2], 0

    def get_max_length(self) -> int:
        """Columns there is room for."""
        return self.keys.shape[2]


def _moved(block: Tensor, num: int, to_R: Tensor, from_R: Tensor) -> Tensor:
    """Copy rows onto rows, then shrink to the first `num`."""
    block.index_copy_(0, to_R, block.index_select(0, from_R))
    return block[:num]


def attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Attend from [R, H, 1, D] to keys and values [R, J, K, D]; gives [R, 1, H, D].

    `attention_mask` [R, 1, 1, K] is added to the scores. The library repeats keys and values for every query head; here
    the heads that share keys are the queries of one small matrix product, on a CPU in float32 a plain one, in half the
    time of the fused kernel. What this does not know goes to the library.
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


AttentionInterface.register(ATTENTION, attend)
