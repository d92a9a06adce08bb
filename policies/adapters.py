"""Low-rank adapters (LoRA): linear layers of the text model keep their weights W frozen, what learns stands beside.

    y = W x + (alpha / rank) B A x        A [rank, in] random, B [out, rank] 0: it begins as the model that it is put on

peft changes the linear layers in place; the model stays the library's own class, so all that reads it goes on reading
it. In peft a layer's W is called `base_layer.weight`; names here are those of the model without adapters, unless they
are said to be adapters'. A and B are at least float32, whatever W is, and are multiplied in the type of x: float32
copies of what every layer of a bfloat16 model reads would take as much memory again, and twice the time.

Source: arXiv 2106.09685, equation 3.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from policies.config import AdapterConfig
from policies.errors import CheckpointError, PolicyError
from policies.layers import beside_text

WEIGHTS_FILE, CONFIG_FILE = "adapter_model.safetensors", "adapter_config.json"  # as peft has them
PREFIX = "base_model.model."  # of peft's names in its files
SET = "default"  # peft's name of a set of adapters; there is one
BASE_FILE = "base_fingerprint.txt"  # beside them
FILES = (WEIGHTS_FILE, CONFIG_FILE, BASE_FILE)
BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes of a weight
EDGE = 256  # values of a tensor's beginning and end that its fingerprint holds
WRAPPED = ".base_layer"  # stands in the name of a weight beside which there is an adapter
ALL = "all-linear"  # peft's name for all linear layers but the head


def require_installed() -> None:
    """Refuse where peft is not installed."""
    if importlib.util.find_spec("peft") is None:
        raise PolicyError("policy.adapter needs peft, which is not here: pip install 'evergreen-rl[adapters]'")


def inject(model: Any, config: AdapterConfig, generator: torch.Generator, name: str) -> None:
    """Freeze a model and put adapters beside its linear layers; its outputs stay what they were, to the last bit.

    The generator, on the CPU, gives the same adapters on every device; no global random state is moved.
    Raises PolicyError: a target that no linear layer of the model has, or its embedding or head.
    """
    from peft import LoraConfig, inject_adapter_in_model

    target_layers(model, config, name)
    targets = ALL if config.targets == "all" else list(config.targets)
    others = beside_text(model)
    options = LoraConfig(
        r=config.rank, lora_alpha=config.alpha, target_modules=targets, exclude_modules=others, lora_dropout=0.0
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Conv1D, which peft recognises by itself
        inject_adapter_in_model(options, model, SET)
    model.requires_grad_(False).eval()
    for parameter in adapter_weights(model).values():
        parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32))
        parameter.requires_grad_()
    for module in _adapted(model):
        module.cast_input_dtype_enabled = False
        for own in (module.lora_A, module.lora_B):
            own[SET] = _InTypeOfInput(own[SET])
    reset(model, generator)


class _InTypeOfInput(torch.nn.Module):
    """A linear layer whose weight is multiplied in the type of what it is given."""

    def __init__(self, own: torch.nn.Linear) -> None:
        super().__init__()
        self.weight = own.weight

    def forward(self, x: Tensor) -> Tensor:
        """Multiply."""
        return torch.nn.functional.linear(x, self.weight.to(x.dtype))


def target_layers(model: Any, config: AdapterConfig, name: str) -> list[Any]:
    """Find the layers beside which adapters are meant to stand; raises PolicyError as `inject` does."""
    ends = {model.get_output_embeddings(), model.get_input_embeddings()}
    linear = {path: one for path, one in model.named_modules() if isinstance(one, torch.nn.Linear | Conv1D)}
    others = beside_text(model)
    inner = {
        path: one
        for path, one in linear.items()
        if one not in ends and not (others is not None and re.fullmatch(others, path))
    }
    if config.targets == "all":
        return list(inner.values())
    found: dict[str, Any] = {}
    for target in config.targets:
        own = {path: one for path, one in inner.items() if f".{path}".endswith(f".{target}")}
        if not own:
            known = sorted({path.rpartition(".")[-1] for path in inner})
            raise PolicyError(
                f"policy.adapter.targets: {target!r} is no linear layer inside {name}; it has {', '.join(known)}"
            )
        found |= own
    return list(found.values())


def num_weights(model: Any, config: AdapterConfig, name: str) -> int:
    """Count the weights of adapters that a model would get, or has: rank * (in + out) of every layer."""
    if own := adapter_weights(model):
        return sum(one.numel() for one in own.values())
    return config.rank * sum(sum(layer.weight.shape) for layer in target_layers(model, config, name))


def adapter_weights(model: Any) -> dict[str, torch.nn.Parameter]:
    """Give A and B of all layers, by peft's names of parameters."""
    return {name: one for name, one in model.named_parameters() if is_of_adapter(name)}


def is_of_adapter(name: str) -> bool:
    """Whether a parameter of this name is an adapter's."""
    return f".{SET}." in name and ".lora_" in name


def stands_beside(name: str) -> bool:
    """Whether a parameter of this name is the weight of a layer that has an adapter, which a merge changes."""
    return name.endswith(f"{WRAPPED}.weight")


def plain_name(name: str) -> str:
    """Name a parameter as the model without adapters does."""
    return name.replace(WRAPPED, "")


def merged_weight(module: Any) -> Tensor:
    """Give the weight of a linear layer together with its adapter's, if it has one: W + (alpha / rank) B A."""
    if not hasattr(module, "lora_A"):
        weight: Tensor = module.weight.detach()
        return weight
    base: Tensor = module.base_layer.weight.detach()
    with torch.no_grad():
        delta: Tensor = module.get_delta_weight(SET)
        return (base.to(delta.dtype) + delta).to(base.dtype)


def merged_weights(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Give the parameters of one model without adapters that computes the same, one after the other; tied ones once."""
    for name, parameter in model.named_parameters():
        if is_of_adapter(name):
            continue
        owner, _, of_owner = name.rpartition(f"{WRAPPED}.")
        is_adapted = bool(owner) and of_owner == "weight"
        yield plain_name(name), merged_weight(model.get_submodule(owner)) if is_adapted else parameter


def merged_state(model: Any) -> dict[str, Tensor]:
    """Give the whole state of one model without adapters that computes the same."""
    return {**base_state(model.state_dict()), **dict(merged_weights(model))}


def base_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give what of a model's state is not its adapters'."""
    return {plain_name(name): one for name, one in state.items() if not is_of_adapter(name)}


@torch.no_grad()
def merge(model: Any, generator: torch.Generator) -> None:
    """Add the adapters to the weights that they stand beside, in place, and begin with fresh ones."""
    for module in _adapted(model):
        module.base_layer.weight.copy_(merged_weight(module))
    reset(model, generator)


@torch.no_grad()
def reset(model: Any, generator: torch.Generator) -> None:
    """Forget what adapters learnt: A uniform as peft and `nn.Linear` begin with it, B 0."""
    for module in _adapted(model):
        fresh = torch.empty(module.lora_A[SET].weight.shape)
        torch.nn.init.kaiming_uniform_(fresh, a=5**0.5, generator=generator)
        module.lora_A[SET].weight.copy_(fresh)
        module.lora_B[SET].weight.zero_()


def are_fresh(model: Any) -> bool:
    """Whether adapters add nothing to the model: every B is 0.

    The optimiser does not tell, as it may have begun anew since they learnt.
    """
    return not any(bool(module.lora_B[SET].weight.any()) for module in _adapted(model))


@contextmanager
def swapped_in(model: Any, others: Mapping[str, Tensor]) -> Iterator[None]:
    """Have a model compute with other adapters inside the block."""
    own = adapter_weights(model)
    before = {name: one.detach().clone() for name, one in own.items()}
    with torch.no_grad():
        for name, one in own.items():
            one.copy_(others[name])
    try:
        yield
    finally:
        with torch.no_grad():
            for name, one in own.items():
                one.copy_(before[name])


def fingerprint(model: Any) -> str:
    """Tell a model's weights, adapters apart, from any others: a hash over every tensor's name, shape and sums.

    Sums are of the bits as integers: they are the same in whatever order a device adds.
    """
    hasher = hashlib.sha256()
    for name, weight in model.named_parameters():
        if not is_of_adapter(name):
            bits = weight.detach().flatten().view(BITS[weight.element_size()])
            sums = _sums(bits)
            ends = torch.cat([bits[:EDGE], bits[-EDGE:]]).tolist()
            hasher.update(f"{plain_name(name)} {tuple(weight.shape)} {weight.dtype} {sums} {ends}".encode())
    return hasher.hexdigest()


def _sums(bits: Tensor) -> list[int]:
    """Add up all integers, every second and every third."""
    steps = (1, 2, 3)
    if bits.device.type == "cpu":  # NumPy takes a fifth of torch's time there
        own = bits.numpy()
        return [int(own[::step].sum(dtype=np.int64)) for step in steps]
    sums: list[int] = torch.stack([bits[::step].sum(dtype=torch.int64) for step in steps]).tolist()
    return sums


def save(model: Any, folder: Path, state: Mapping[str, Tensor], name: str, base: str | None) -> None:
    """Write the adapters among these tensors, in peft's layout: what `PeftModel.from_pretrained` reads.

    `base`: fingerprint of the model that has to be there when they are read again; None: it is saved too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {_in_file(own): one.contiguous() for own, one in sorted(state.items()) if is_of_adapter(own)}
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})  # of two keys the order is chance
    if base is not None:
        (folder / BASE_FILE).write_text(f"{base}\n")
    described = model.peft_config[SET].to_dict() | {"base_model_name_or_path": name, "inference_mode": True}
    described |= {"target_modules": sorted(described["target_modules"]), "task_type": "CAUSAL_LM"}
    _write_config(folder, described)


def name_base(folder: Path, name: str) -> None:
    """Have saved adapters name the model that they stand beside, for who reads them with peft."""
    described = json.loads((folder / CONFIG_FILE).read_text())
    _write_config(folder, described | {"base_model_name_or_path": name})


def _write_config(folder: Path, described: Mapping[str, Any]) -> None:
    (folder / CONFIG_FILE).write_text(json.dumps(described, indent=2, sort_keys=True, default=str) + "\n")


def is_saved_in(folder: Path) -> bool:
    """Whether a folder holds adapters, rather than a whole model."""
    return (folder / WEIGHTS_FILE).is_file()


def saved(folder: Path, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read adapters that `save` wrote, by peft's names of parameters, on the CPU; layers and shapes must agree."""
    try:
        found = load_file(folder / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"there are no adapters in {folder} ({error}). Use the spec it was saved with") from error
    names = {_in_file(name): name for name in like}
    there = {name: tuple(one.shape) for name, one in found.items()}
    here = {own: tuple(like[name].shape) for own, name in names.items()}
    if wrong := sorted({name for name, _ in there.items() ^ here.items()}):
        raise CheckpointError(
            f"the adapters in {folder} do not fit: {wrong[0]} is {there.get(wrong[0], 'missing')} there and "
            f"{here.get(wrong[0], 'missing')} here ({len(wrong)} tensors differ). Use the spec they were saved with: "
            "`policy.adapter`, its rank and targets"
        )
    return {name: found[own] for own, name in names.items()}


def require_base(folder: Path, base: str | None, name: str) -> None:
    """Refuse adapters that were trained beside other weights than those of this fingerprint."""
    file = folder / BASE_FILE
    if file.is_file() and file.read_text().strip() != base:
        raise CheckpointError(
            f"the adapters in {folder} were trained beside other weights than those of {name} now: has the model in "
            "that place been replaced? Put it back (of a hub name, set `policy.revision` to the commit of then)"
        )


def saved_delta(model: Any, read: Callable[[str], Tensor | None], name: str) -> Tensor | None:
    """Work out what saved adapters add to the weight of this name; None: they do not stand beside it.

    `read` gives a tensor of their file by its name there.
    """
    owner = name.removesuffix(".weight")
    a, b = (read(f"{PREFIX}{owner}.lora_{one}.weight") for one in "AB")
    if a is None or b is None:
        return None
    module = model.get_submodule(owner)
    delta: Tensor = module.scaling[SET] * (b @ a)
    return delta.T if module.fan_in_fan_out else delta


def _in_file(name: str) -> str:
    return PREFIX + name.replace(f".{SET}", "")


def _adapted(model: Any) -> list[Any]:
    return [module for module in model.modules() if hasattr(module, "lora_A")]
