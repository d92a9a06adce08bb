"""Reading rows that begin with the same prompt, the prompt read once: the G rows of a group share theirs.

The prompts of a micro-batch go through the model once, with gradient. Every row then goes on from copies of its
prompt's keys and values; the copies' gradients add up in the prompt. The first token of an answer is predicted by the
prompt's own last feature. Nothing is approximated: a token sees what it sees in the whole row.

Rows of different lengths go on in several parts, so that little is padding. All padding is on the right: prompts need
no attention mask, and what follows a short one is masked out of the rows that go on from it.

Dimension letters: B rows of a micro-batch, R rows of one part, U prompts, P tokens of the longest prompt, A tokens fed
after a prompt, T tokens of the longest row, F features, N masked tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import CacheLayerMixin, DynamicLayer

from policies.forward import head_of, parameters_of, read


@dataclass(frozen=True)
class PromptPart:
    """Rows that go on from their prompts in one forward."""

    row_R: Tensor  # int64, places in the micro-batch
    num_columns: int  # A: tokens fed of the one with most to go


@dataclass(frozen=True)
class Sharing:
    """How the rows of one micro-batch are read."""

    prompt_B: Tensor  # int64, the prompt that each row begins with, counted from 0
    row_U: Tensor  # int64, a row that begins with it
    start_B: Tensor  # int64, tokens of its prompt
    width: int  # P
    is_even: bool  # all prompts have that length
    parts: tuple[PromptPart, ...]  # of the rows that have anything to feed after their prompt

    def to(self, device: torch.device) -> Sharing:
        """Move all tensors."""
        return replace(
            self,
            prompt_B=self.prompt_B.to(device),
            row_U=self.row_U.to(device),
            start_B=self.start_B.to(device),
            parts=tuple(replace(part, row_R=part.row_R.to(device)) for part in self.parts),
        )


def can_share(model: Any) -> bool:
    """Whether prompts may be read apart from what follows: plain attention, positions given from outside.

    Only for attention that was compared with whole rows: the library's `sdpa` and `eager`.
    """
    layers = DynamicCache(config=model.config).layers
    return (
        len(layers) > 0
        and all(type(layer) is DynamicLayer for layer in layers)
        and head_of(model) is not None
        and {"attention_mask", "position_ids", "past_key_values"} <= parameters_of(model.base_model.__class__)
        and model.config.get_text_config()._attn_implementation in ("sdpa", "eager")
    )


def shared_features(model: Any, ids_BT: Tensor, mask_BT: Tensor, sharing: Sharing) -> tuple[Tensor, Tensor]:
    """Give what `forward.features_of` gives; each row has a masked token, and its prompt ends before it."""
    found = list(_features(model, ids_BT, mask_BT, sharing))
    return torch.cat([features for features, _ in found]), torch.cat([place for _, place in found])


def _features(
    model: Any, ids_BT: Tensor, mask_BT: Tensor, sharing: Sharing
) -> Iterator[tuple[Tensor, Tensor]]:
    """Give the features [n, F] that predict masked tokens, with the places of those in the flattened rows."""
    cache = DynamicCache(config=model.config)
    ids_UP = ids_BT[sharing.row_U, : sharing.width]
    features_UPF = read(model, sharing.width, input_ids=ids_UP, past_key_values=cache, use_cache=True)
    prompt_U = torch.arange(len(ids_UP), device=ids_BT.device)
    last_UF = features_UPF[prompt_U, sharing.start_B[sharing.row_U] - 1]
    row_B = torch.arange(len(ids_BT), device=ids_BT.device)
    yield last_UF.index_select(0, sharing.prompt_B), row_B * ids_BT.shape[1] + sharing.start_B
    for part in sharing.parts:
        yield _go_on(model, cache, ids_BT, mask_BT, sharing, part)


def _go_on(
    model: Any, cache: Cache, ids_BT: Tensor, mask_BT: Tensor, sharing: Sharing, part: PromptPart
) -> tuple[Tensor, Tensor]:
    """Feed what follows the prompts of some rows."""
    start_R1, last = sharing.start_B[part.row_R, None], ids_BT.shape[1] - 1
    offset_A = torch.arange(part.num_columns, device=ids_BT.device)
    column_RA = (start_R1 + offset_A).clamp(max=last)  # past the end is padding: any token will do
    features_RAF = read(
        model,
        part.num_columns,
        input_ids=ids_BT[part.row_R[:, None], column_RA],
        attention_mask=None if sharing.is_even else _mask(start_R1, sharing.width, part.num_columns),
        position_ids=column_RA,
        past_key_values=_dealt(cache, sharing.prompt_B[part.row_R]),
        use_cache=True,
    )
    next_RA = start_R1 + offset_A + 1
    is_scored_RA = mask_BT[part.row_R[:, None], next_RA.clamp(max=last)] & (next_RA <= last)
    scored_N = is_scored_RA.flatten().nonzero()[:, 0]
    place_RA = part.row_R[:, None] * ids_BT.shape[1] + next_RA
    return features_RAF.flatten(0, 1).index_select(0, scored_N), place_RA.flatten()[scored_N]


def _mask(start_R1: Tensor, width: int, num_columns: int) -> Tensor:
    """True on the columns [R, P + A] that may be read: a prompt's own, and all that follow it."""
    column_K = torch.arange(width + num_columns, device=start_R1.device)
    return (column_K < start_R1) | (column_K >= width)


def _dealt(prompts: Cache, prompt_R: Tensor) -> Cache:
    """Give each row the keys and values of its prompt."""
    return Cache(layers=[_Dealt(layer, prompt_R) for layer in prompts.layers])


class _Dealt(DynamicLayer):  # type: ignore[misc]
    """Keys and values of the prompts, copied to rows when their layer is reached; nothing is kept for later."""

    def __init__(self, prompts: CacheLayerMixin, prompt_R: Tensor) -> None:
        super().__init__()
        self.prompts, self.prompt_R = prompts, prompt_R

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Give the keys and values of whole rows."""
        assert self.prompts.keys is not None
        assert self.prompts.values is not None
        keys = self.prompts.keys.index_select(0, self.prompt_R)
        values = self.prompts.values.index_select(0, self.prompt_R)
        return torch.cat([keys, key_states], dim=-2), torch.cat([values, value_states], dim=-2)

    def get_seq_length(self) -> int:
        """Columns before those that are fed now."""
        num: int = self.prompts.get_seq_length()
        return num
