"""Activation checkpointing: layers redo their forward in the backward pass instead of keeping what it made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from policies.errors import PolicyError


@contextmanager
def recomputing_layers(model: Any, name: str) -> Iterator[None]:
    """Recompute the layers of a model inside the block.

    The library recomputes only layers in training mode, where dropout acts too. We switch on the layers alone and
    leave what is inside them in eval mode; a model with dropout is refused, since its layers may apply it
    themselves and log-probs would no longer be the sampler's.
    """
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise PolicyError(f"activation_checkpointing: {name} has no layers that the library can recompute")
    dropouts = [key for key, value in model.config.to_dict().items() if "drop" in key and _is_rate(value)]
    if dropouts:
        raise PolicyError(
            f"activation_checkpointing: {name} has dropout ({dropouts[0]}); set it to 0 in config.json"
        )
    for layer in layers:
        layer.gradient_checkpointing = layer.training = True
        layer._gradient_checkpointing_func = partial(
            checkpoint, use_reentrant=False, preserve_rng_state=False
        )
    try:
        yield
    finally:
        for layer in layers:
            layer.gradient_checkpointing = layer.training = False


def _is_rate(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0
