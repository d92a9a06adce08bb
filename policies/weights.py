"""Weights on disk: the layout that `from_pretrained` reads, nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers.utils import logging as library

from policies.errors import CheckpointError


def read_model(source: str, dtype: torch.dtype, **options: Any) -> Any:
    """Read a model on the CPU, in eval mode; no global random state is moved."""
    with torch.random.fork_rng(devices=[]):
        return AutoModelForCausalLM.from_pretrained(source, dtype=dtype, **options).eval()


def load_into(model: Any, folder: Path) -> None:
    """Copy saved weights into a model, in place; names and shapes must agree in both directions."""
    ours: dict[str, Tensor] = model.state_dict()
    with without_progress_bars():
        saved = read_model(str(folder), dtype=next(iter(ours.values())).dtype).state_dict()
    wrong = [name for name in sorted({*saved, *ours}) if _shape(saved, name) != _shape(ours, name)]
    if wrong:
        raise CheckpointError(
            f"the weights in {folder} do not fit: {wrong[0]} is {_shape(saved, wrong[0])} there and "
            f"{_shape(ours, wrong[0])} here ({len(wrong)} tensors differ). Use the spec they were saved with"
        )
    with torch.no_grad():
        for name, tensor in ours.items():
            tensor.copy_(saved[name])


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Keep the library from drawing a progress bar for every checkpoint."""
    was_enabled = library.is_progress_bar_enabled()
    library.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            library.enable_progress_bar()


def _shape(state: Mapping[str, Tensor], name: str) -> tuple[int, ...] | str:
    return tuple(state[name].shape) if name in state else "missing"
