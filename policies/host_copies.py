"""Tensors as they were at one moment, in host memory: what a checkpoint is written from while training goes on."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, UntypedStorage


class HostCopies:
    """Copies in memory that is used again: touching new pages costs several times as much as copying into old ones."""

    def __init__(self) -> None:
        self._kept: dict[str, dict[int, UntypedStorage]] = {}

    def of(self, key: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copy these; what shares memory still does. The next call with this key writes over what this one gave."""
        before, now = self._kept.get(key, {}), dict[int, UntypedStorage]()
        copies = {}
        for name, tensor in tensors.items():
            source = tensor.untyped_storage()
            place = source.data_ptr()
            if place not in now:
                own = before.get(place)
                if own is None or own.nbytes() != source.nbytes():
                    own = torch.empty(source.nbytes(), dtype=torch.uint8).untyped_storage()
                now[place] = own
                own.copy_(source)
            copy = torch.empty(0, dtype=tensor.dtype)
            copies[name] = copy.set_(now[place], tensor.storage_offset(), tensor.size(), tensor.stride())
        self._kept[key] = now
        return copies
