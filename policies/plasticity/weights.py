"""Weights: their norm, and how far they are from those of an earlier checkpoint.

    norm ||w||_2    distance ||w - w'||_2    relative distance ||w - w'|| / ||w'||    cosine <w, w'> / (||w|| ||w'||)

of the layers' matrices (and those beside embeddings), layer by layer and together; of the embeddings, head included,
and of vectors (norms, biases) apart. Weights that are tied count once. Growing norms lower the effective learning rate.
The earlier weights are read a tensor at a time, and no second model is built. Needs the module and safetensors files.

Source: plasticity.md 3.5.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from policies import adapters
from policies.config import BASE
from policies.layers import decoder_layers

MATRICES, EMBEDDING, VECTOR = "", "_embedding", "_vector"
WHOLE = -1  # in place of a layer's number
CHUNK = 1 << 24  # elements of a tensor in float32 at a time
LEAST = 1e-8  # of a norm that is divided by

Place = tuple[str, int]  # kind of weights, layer
Read = Callable[[str], Tensor | None]


@dataclass
class Sums:
    """Running sums over weights w, and over w' of before."""

    squared: float = 0.0
    before: float = 0.0
    difference: float = 0.0
    product: float = 0.0

    def add(self, other: Sums) -> None:
        """Add those of other weights."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    @property
    def norm(self) -> float:
        """||w||."""
        return math.sqrt(self.squared)

    @property
    def distance(self) -> float:
        """||w - w'||."""
        return math.sqrt(self.difference)

    @property
    def relative_distance(self) -> float | None:
        """||w - w'|| / ||w'||; None where there was nothing."""
        return self.distance / math.sqrt(self.before) if math.sqrt(self.before) >= LEAST else None

    @property
    def cosine(self) -> float | None:
        """<w, w'> / (||w|| ||w'||); None where there is nothing."""
        norms = math.sqrt(self.squared) * math.sqrt(self.before)
        return self.product / norms if norms >= LEAST**2 else None


@dataclass
class WeightSums:
    """Sums by kind and layer; `missing` names weights that an earlier checkpoint has not, or in another shape."""

    places: dict[Place, Sums] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


@torch.no_grad()
def weight_sums(model: Any, before: Read | None = None) -> WeightSums:
    """Sum over all weights of a model, adapters merged, compared with those of before if they are given."""
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    embeddings = {id(one.weight) for one in (*tables, model.get_output_embeddings()) if one is not None}
    layers = {f"{name}.": number for number, name in enumerate(decoder_layers(model))}
    found = WeightSums()
    for name, weight in adapters.merged_weights(model):
        then = None if before is None else before(name)
        if before is not None and (then is None or then.shape != weight.shape):
            found.missing.append(name)
            continue
        own = sums_of(weight, then)
        if id(weight) in embeddings:
            places = [(EMBEDDING, WHOLE)]
        elif weight.dim() < 2:
            places = [(VECTOR, WHOLE)]
        else:
            of_layer = [number for prefix, number in layers.items() if name.startswith(prefix)]
            places = [(MATRICES, WHOLE), *((MATRICES, number) for number in of_layer)]
        for place in places:
            found.places.setdefault(place, Sums()).add(own)
    return found


def sums_of(weight: Tensor, before: Tensor | None = None) -> Sums:
    """Sum over one tensor, a chunk of it in float32 at a time."""
    sums = Sums()
    then = torch.split(before.flatten(), CHUNK) if before is not None else None
    for number, chunk in enumerate(torch.split(weight.detach().flatten(), CHUNK)):
        w = chunk.float()
        sums.squared += _sum(w * w)
        if then is not None:
            v = then[number].to(w)
            sums.before += _sum(v * v)
            sums.difference += _sum((w - v).square())
            sums.product += _sum(w * v)
    return sums


def _sum(values: Tensor) -> float:
    return float(values.sum(dtype=torch.float64))


@contextmanager
def saved_weights(folder: Path, model: Any, named: Path | None = None) -> Iterator[Read]:
    """Open the safetensors files of a saved policy; a tensor is read when it is asked for, None: there is none.

    Where adapters were saved they are merged with what they stood beside: with what was saved with them, else with what
    the model has there. `named`: where the files of the policy's name are, once the model has something else there,
    because adapters were merged into it; what no adapter stands beside tells whether they still are what they were.
    """
    if not adapters.is_saved_in(folder):
        with _saved_tensors(folder) as read:
            yield read
        return
    own = {adapters.plain_name(name): one for name, one in model.named_parameters()}
    has_base = (folder / BASE).is_dir()
    beside = folder / BASE if has_base else named
    below = nullcontext(own.get) if beside is None else _saved_tensors(beside)
    with below as read, _saved_tensors(folder) as read_adapters:

        def merged(name: str) -> Tensor | None:
            found, now = read(name), own[name].detach()
            if found is None or found.shape != now.shape:
                return None
            found = found.detach().to(now.dtype)
            if (delta := adapters.saved_delta(model, read_adapters, name)) is not None:
                return (found.to(delta) + delta).to(found.dtype)
            is_another = beside is not None and not has_base and not torch.equal(found, now.to(found.device))
            return None if is_another else found

        yield merged


@contextmanager
def _saved_tensors(folder: Path) -> Iterator[Read]:
    index = folder / "model.safetensors.index.json"
    names = {path.name for path in folder.glob("*.safetensors")}
    if index.is_file():
        names = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
    with ExitStack() as open_files:
        where: dict[str, Any] = {}
        for name in sorted(names):
            opened = open_files.enter_context(safe_open(folder / name, framework="pt"))
            where |= dict.fromkeys(opened.keys(), opened)
        yield lambda name: where[name].get_tensor(name) if name in where else None
