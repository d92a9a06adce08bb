"""The layers of a causal language model of transformers, and the projections that end their MLPs."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

# What the library's architectures call the layer that an MLP's hidden units enter; `w2` as in LFM2.
DOWN_PROJECTIONS = frozenset({"down_proj", "c_proj", "fc2", "fc_out", "dense_4h_to_h", "w2"})


def decoder_layers(model: Any) -> dict[str, nn.Module]:
    """Give the model's layers in order, by the name they have in it; empty where they cannot be told."""
    num = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == num:
            return {f"{name}.{number}": layer for number, layer in enumerate(module)}
    return {}


def down_projections(model: Any) -> list[nn.Module] | None:
    """Give every layer's down-projection: what enters it are the MLP's hidden units, gated or not.

    None where any layer has not exactly one, or has experts: a part of the units is not the layer's units.
    """
    found = [_of_layer(layer) for layer in decoder_layers(model).values()]
    known = [one for one in found if one is not None]
    return known if found and len(known) == len(found) else None


def _of_layer(layer: nn.Module) -> nn.Module | None:
    names = dict(layer.named_modules())
    if any("expert" in name for name in names):
        return None
    ends = [
        module
        for name, module in names.items()
        if name.rpartition(".")[2] in DOWN_PROJECTIONS and "attn" not in name and "attention" not in name
        if isinstance(module, nn.Linear | Conv1D)
    ]
    return ends[0] if len(ends) == 1 else None


def output_norms(projection: Any) -> Any:
    """Give the norm [U] of the weights by which each of a projection's inputs is read on, float64."""
    weight = projection.weight.detach().double()
    return weight.norm(dim=1 if isinstance(projection, Conv1D) else 0)
