"""The device and the CPU threads that torch works with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from policies.errors import PolicyError


def choose_device(name: Literal["auto", "cpu", "cuda"] = "auto") -> torch.device:
    """Choose the device: `auto` is the GPU if there is one."""
    if name == "cuda" and not torch.cuda.is_available():
        raise PolicyError("device: cuda, but torch finds no usable GPU. Say `device: auto` or `cpu`")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def free_cached_memory() -> None:
    """Give GPU memory back that torch keeps for its next tensors; nothing where no GPU is used."""
    torch.cuda.empty_cache()


@contextmanager
def cpu_threads(num: int | None) -> Iterator[None]:
    """Give torch this many CPU threads inside the block, and what it had before afterwards; None: leave it."""
    before = torch.get_num_threads()
    if num is None or num == before:
        yield
        return
    torch.set_num_threads(num)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def use_threads(num: int) -> None:
    """Give this very thread so many CPU threads to compute with; a new thread may otherwise take all cores."""
    torch.set_num_threads(num)
