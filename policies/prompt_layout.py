"""Prompts that several rows share: laid out once, read once. The decoder and the learner both begin here.

Dimension letters: U unique prompts, K columns (the longest prompt).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class PromptLayout(NamedTuple):
    """Prompts padded on the left, so that the token after each of them falls into one column."""

    ids_UK: Tensor  # int64, `pad_id` where the mask is False
    mask_UK: (
        Tensor  # bool, True on the prompts' own tokens; a column of padding is read by nothing that counts
    )
    position_UK: Tensor  # int64, counted from each prompt's first token; 0 on padding


def left_padded(prompts: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> PromptLayout:
    """Lay prompts out as a rectangle that ends where they end.

    Positions are counted from the mask: without them the library would count the padding too, and rotary
    positions would be shifted, which looks plausible and is wrong.
    """
    width = max(len(prompt) for prompt in prompts)
    ids_UK = [[pad_id] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    length_U1 = torch.tensor([[len(prompt)] for prompt in prompts], device=device)
    column_K = torch.arange(width, device=device) - width
    mask_UK = column_K >= -length_U1
    return PromptLayout(torch.tensor(ids_UK, device=device), mask_UK, (column_K + length_U1).clamp_(min=0))
