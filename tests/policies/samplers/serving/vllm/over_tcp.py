"""Stands in for NCCL on both sides, so that all of vLLM's weight transfer but NCCL itself runs on a CPU.

Imported in a server's worker as its extension, and by the test for the learner's side.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from policies.samplers.serving.worker_extension import Reload as Plain


class OverTcp:
    """What of vLLM's communicator is used; tensors go through the store at which the ranks have met."""

    disabled = False

    def __init__(self, group: Any, device: Any) -> None:
        self._group = group

    def broadcast(self, tensor: Any, src: int, stream: Any = None) -> None:
        found = self._group.broadcast(tensor, src)
        if self._group.rank != src:
            tensor.copy_(found)

    def destroy(self) -> None:
        self._group = None


class Stream:
    def synchronize(self) -> None:
        """Nothing runs beside anything."""


def replacements() -> list[tuple[Any, str, Any]]:
    """Name what has to be another on a CPU: owner, attribute, value."""
    import torch
    from vllm.distributed.device_communicators import pynccl
    from vllm.distributed.weight_transfer import packed_tensor

    streams = Stream(), Stream()
    return [
        (pynccl, "PyNcclCommunicator", OverTcp),
        (packed_tensor, "_get_streams", lambda device, num: streams),
        (torch.accelerator, "current_device_index", lambda: 0),
        (torch.accelerator, "synchronize", lambda *given: None),
        (torch.cuda, "stream", nullcontext),
        (torch.cuda, "device", nullcontext),
        (torch.cuda, "current_device", lambda: 0),
        (torch.cuda, "synchronize", lambda *given: None),
    ]


class Reload(Plain):
    """The extension of a worker that receives over TCP."""

    def receive_over_tcp(self) -> None:
        """Replace, in the worker, what a CPU does not have."""
        for owner, name, value in replacements():
            setattr(owner, name, value)
