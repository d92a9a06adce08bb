"""The layers of a causal language model of transformers, and the MLPs inside them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

# The ways into an MLP and out of it, as architectures of the library call them; hidden units enter the way out.
WAYS = (
    (("gate_proj", "up_proj"), "down_proj"),  # Llama, Qwen, Mistral, Gemma
    (("gate_up_proj",), "down_proj"),  # Phi-3: both in one
    (("up_proj",), "down_proj"),
    (("w1", "w3"), "w2"),  # LFM2
    (("fc1",), "fc2"),  # OPT, Phi
    (("fc_in",), "fc_out"),  # GPT-J, CodeGen
    (("c_fc",), "c_proj"),  # GPT-2
    (("dense_h_to_4h",), "dense_4h_to_h"),  # GPT-NeoX, Falcon, BLOOM
)


@dataclass(frozen=True)
class Mlp:
    """An MLP of a model: its parts by name, and how many hidden units it has."""

    incoming: tuple[str, ...]
    outgoing: str
    incoming_dim: int  # of the units, in the incoming weights: 0 for a Linear, [out, in]; 1 for a Conv1D
    num_units: int

    @property
    def outgoing_dim(self) -> int:
        """Where the units are in the weight of the way out."""
        return 1 - self.incoming_dim


def text_model(model: Any) -> str:
    """Name the part of a model that reads text, of which images and sound may have others beside it.

    It is the innermost one with the input embeddings and a list of all layers; "", the whole, where there is none.
    """
    table = model.get_input_embeddings() if isinstance(model, PreTrainedModel) else None
    name = next((name for name, module in model.named_modules() if module is table), "")
    while name:
        name = name.rpartition(".")[0]
        if _layers_in(model, name):
            return name
    return ""


def beside_text(model: Any) -> str | None:
    """Give a pattern of the names of what reads images and sound beside the text model; None: it is all of the body."""
    body, text = model.base_model_prefix, text_model(model)
    if model.config.get_text_config() is model.config or not text.startswith(f"{body}."):
        return None
    return rf"{re.escape(body)}\.(?!{re.escape(text.removeprefix(f'{body}.'))}\.).*"


def freeze_beside_text(model: Any) -> None:
    """Keep what reads images and sound as it is: text does not move it, but decay and interventions would."""
    others = beside_text(model)
    if others is not None:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not re.fullmatch(others, name))


def decoder_layers(model: Any) -> dict[str, nn.Module]:
    """Give the model's layers in order, by the name they have in it; empty where they cannot be told."""
    return _layers_in(model, text_model(model))


def _layers_in(model: Any, part: str) -> dict[str, nn.Module]:
    num = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    for name, module in model.get_submodule(part).named_modules(prefix=part):
        if isinstance(module, nn.ModuleList) and len(module) == num:
            return {f"{name}.{number}": layer for number, layer in enumerate(module)}
    return {}


def has_experts(model: Any) -> bool:
    """Whether any MLP is a mixture of experts: which units a token meets is then the router's choice."""
    return any("expert" in f"{name} {type(module).__name__}".lower() for name, module in model.named_modules())


def find_mlps(model: Any) -> list[Mlp]:
    """Find the MLPs of the text model whose ways in and out are known, in the model's order."""
    found, part = [], text_model(model)
    for name, module in model.get_submodule(part).named_modules(prefix=part):
        parts = dict(module.named_children())
        ways = next((way for way in WAYS if {*way[0], way[1]} <= parts.keys()), None)
        if ways is None:
            continue
        prefix, out = f"{name}." if name else "", parts[ways[1]]
        if not isinstance(getattr(out, "weight", None), Tensor) or out.weight.dim() != 2:
            continue
        incoming_dim = 1 if is_conv(out) else 0
        incoming = tuple(f"{prefix}{one}" for one in ways[0])
        found.append(Mlp(incoming, f"{prefix}{ways[1]}", incoming_dim, out.weight.shape[1 - incoming_dim]))
    return found


def down_projections(model: Any) -> list[nn.Module] | None:
    """Give every layer's down-projection: what enters it are the MLP's hidden units, gated or not.

    None where any layer has not exactly one, or has experts: a part of the units is not the layer's units.
    """
    layers, mlps = decoder_layers(model), find_mlps(model)
    found = [[mlp.outgoing for mlp in mlps if mlp.outgoing.startswith(f"{layer}.")] for layer in layers]
    if not found or has_experts(model) or any(len(own) != 1 for own in found):
        return None
    return [model.get_submodule(own[0]) for own in found]


def is_conv(module: Any) -> bool:
    """Whether a linear layer, or one beside which an adapter stands, is a Conv1D: its weight is [in, out]."""
    return isinstance(getattr(module, "base_layer", module), Conv1D)
