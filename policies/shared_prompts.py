"""Reading rows that begin with the same prompt, the prompt read once: the G rows of a group share theirs.

The prompts of a micro-batch go through the model once, with gradient. Every row then goes on from copies of its
prompt's keys and values; the copies' gradients add up in the prompt, whose last feature predicts the answer's first
token. Nothing is approximated: a token sees what it sees in the whole row. Rows of different lengths go on in several
parts, so that little is padding; it is all on the right, and what follows a short prompt is masked out of its rows.

Dimension letters: B rows of a micro-batch, R rows of one part, U prompts, P tokens of the longest prompt, A tokens fed
after a prompt, T tokens of the longest row, F features, N masked tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import CacheLayerMixin, DynamicLayer

from policies.forward import has_plain_cache, head_of, parameters_of, read


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
        moved = {name: getattr(self, name).to(device) for name in ("prompt_B", "row_U", "start_B")}
        parts = tuple(replace(part, row_R=part.row_R.to(device)) for part in self.parts)
        return replace(self, **moved, parts=parts)


def can_share(model: Any) -> bool:
    """Whether prompts may be read apart: plain attention (`sdpa` and `eager` were compared with whole rows)."""
    return (
        has_plain_cache(model)
        and head_of(model) is not None
        and {"attention_mask", "position_ids", "past_key_values"} <= parameters_of(model.base_model.__class__)
        and model.config.get_text_config()._attn_implementation in ("sdpa", "eager")
    )


def shared_features(model: Any, ids_BT: Tensor, mask_BT: Tensor, sharing: Sharing) -> tuple[Tensor, Tensor]:
    """Give what `forward.features_of` gives; each row has a masked token, and its prompt ends before it."""
    cache = DynamicCache(config=model.config)
    ids_UP = ids_BT[sharing.row_U, : sharing.width]
    features_UPF = read(model, sharing.width, input_ids=ids_UP, past_key_values=cache, use_cache=True)
    prompt_U = torch.arange(len(ids_UP), device=ids_BT.device)
    last_UF = features_UPF[prompt_U, sharing.start_B[sharing.row_U] - 1]
    row_B = torch.arange(len(ids_BT), device=ids_BT.device)
    first = (last_UF.index_select(0, sharing.prompt_B), row_B * ids_BT.shape[1] + sharing.start_B)
    others = [_go_on(model, cache, ids_BT, mask_BT, sharing, part) for part in sharing.parts]
    features, places = zip(first, *others, strict=True)
    return torch.cat(features), torch.cat(places)


def _go_on(
    model: Any, cache: Cache, ids_BT: Tensor, mask_BT: Tensor, sharing: Sharing, part: PromptPart
) -> tuple[Tensor, Tensor]:
    """Feed what follows the prompts of some rows: features [n, F] of masked tokens, places in the flattened rows."""
    start_R1, last, device = sharing.start_B[part.row_R, None], ids_BT.shape[1] - 1, ids_BT.device
    offset_A = torch.arange(part.num_columns, device=device)
    column_RA = (start_R1 + offset_A).clamp(max=last)  # past the end is padding: any token will do
    may_read = None
    if not sharing.is_even:  # [R, P + A]: a prompt's own columns, and all that follow it
        column_K = torch.arange(sharing.width + part.num_columns, device=device)
        may_read = (column_K < start_R1) | (column_K >= sharing.width)
    prompt_R = sharing.prompt_B[part.row_R]
    features_RAF = read(
        model,
        part.num_columns,
        input_ids=ids_BT[part.row_R[:, None], column_RA],
        attention_mask=may_read,
        position_ids=column_RA,
        past_key_values=Cache(layers=[_CopiedLayer(layer, prompt_R) for layer in cache.layers]),
        use_cache=True,
    )
    next_RA = start_R1 + offset_A + 1
    is_scored_RA = mask_BT[part.row_R[:, None], next_RA.clamp(max=last)] & (next_RA <= last)
    scored_N = is_scored_RA.flatten().nonzero()[:, 0]
    place_RA = part.row_R[:, None] * ids_BT.shape[1] + next_RA
    return features_RAF.flatten(0, 1).index_select(0, scored_N), place_RA.flatten()[scored_N]


class _CopiedLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of the prompts, copied to rows when their layer is reached; nothing is kept for later."""

    def __init__(self, prompts: CacheLayerMixin, prompt_R: Tensor) -> None:
        super().__init__()
        self.prompts, self.prompt_R = prompts, prompt_R

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
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
