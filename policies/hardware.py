"""The device and the CPU threads that torch works with, and which kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

from policies.errors import PolicyError


def choose_device(name: Literal["auto", "cpu", "cuda"] = "auto") -> torch.device:
    """Choose the device: `auto` is the GPU if there is one."""
    if name == "cuda" and not torch.cuda.is_available():
        raise PolicyError("device: cuda, but torch finds no usable GPU. Say `device: auto` or `cpu`")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


@contextmanager
def deterministic_kernels(device: torch.device, *, strict: bool = True) -> Iterator[None]:
    """Have a GPU compute gradients to the same last bit each time inside the block; a CPU does so anyway.

    Its fastest backward passes (of attention, of rows copied from one prompt) add in whatever order threads come. What
    has no kernel that repeats raises RuntimeError, unless `strict` is False: then it warns, and attention does not
    repeat either. The switch is the process's: it holds for other threads too.

    CUBLAS_WORKSPACE_CONFIG need not be set: torch (2.11 on) gives cuBLAS a buffer of its own for each stream. 2.11
    parses the variable at every matrix product, which takes .1 ms.
    """
    if device.type != "cuda":
        yield
        return
    with _deterministic_algorithms("error" if strict else "warn"):
        yield


def nondeterministic_operation_of(compute: Callable[[], object]) -> str | None:
    """Compute something; name the first operation in it for which torch has no kernel that repeats, or give None."""
    try:
        with _deterministic_algorithms("error"):
            compute()
    except RuntimeError as error:
        operation, found, _ = str(error).partition(" does not have a deterministic implementation")
        if not found:
            raise
        return operation
    return None


@contextmanager
def _deterministic_algorithms(otherwise: Literal["error", "warn"]) -> Iterator[None]:
    """Have torch take kernels that repeat inside the block; `otherwise`: what it does where there is none."""
    fill: Any = torch.utils.deterministic  # a property of the module
    before = torch.get_deterministic_debug_mode(), fill.fill_uninitialized_memory
    torch.set_deterministic_debug_mode(otherwise)
    fill.fill_uninitialized_memory = False  # nothing here reads what it has not written
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before[0])
        fill.fill_uninitialized_memory = before[1]


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
