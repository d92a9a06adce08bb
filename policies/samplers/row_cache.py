"""What a batch of rows remembers while it is decoded: what the decode loop asks of it, and the library's own kind.

Dimension letters: R rows, U unique prompts, K columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from torch import Tensor
from transformers import Cache

from policies.policy import Policy
from policies.samplers.contracts import Request


class RowCache(Protocol):
    """The memory of one batch. Filled with the prompts; then tokens are added and rows leave."""

    past: Cache  # what the model reads and writes
    takes_parts: bool  # whether prompts may be read in parts, one `fill` each

    def fill(self, prompts: Cache, group_size_U: Tensor) -> None:
        """Give the next rows their copies of prompts that a cache has just read, so many rows a prompt."""

    def attending(self) -> AbstractContextManager[None]:
        """Set the model up for decoding with this cache, while a block lasts."""

    def next_column(self) -> Tensor | None:
        """Begin a token: gives the attention mask it is fed with; None: every row attends to all columns."""

    def keep(self, kept_R: Tensor) -> None:
        """Go on with these rows, in this order."""


class LibraryCache:
    """The library's own growing cache: right for every architecture it supports, and slower than a slab."""

    past: Cache
    takes_parts = False

    def __init__(self, policy: Policy, requests: Sequence[Request]) -> None:
        lengths = [len(request.ids) for request in requests]
        self.end = max(lengths)
        self.mask_RK: Tensor | None = None
        if min(lengths) < self.end:
            most = self.end + max(request.budget for request in requests)
            length_R1 = torch.tensor([lengths], device=policy.device).T
            self.mask_RK = torch.arange(most, device=policy.device) >= self.end - length_R1

    def fill(self, prompts: Cache, group_size_U: Tensor) -> None:
        """Take the prompts' cache over."""
        self.past = prompts
        place_U = torch.arange(len(group_size_U), device=group_size_U.device)
        self.past.reorder_cache(place_U.repeat_interleave(group_size_U))

    def attending(self) -> AbstractContextManager[None]:
        """Leave the model as it is."""
        return nullcontext()

    def next_column(self) -> Tensor | None:
        """Begin a token; the mask is [R, K], the columns so far."""
        self.end += 1
        return None if self.mask_RK is None else self.mask_RK[:, : self.end]

    def keep(self, kept_R: Tensor) -> None:
        """Copy these rows, in this order."""
        self.past.reorder_cache(kept_R)
        if self.mask_RK is not None:
            self.mask_RK = self.mask_RK[kept_R]
