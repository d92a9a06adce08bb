"""What a policy takes of a device's memory, from its configuration alone: weights, training, activations, cache.

State, by parameter: float32 weights 16 B (weights, gradients, two moments); shorter ones 20 B (weights and their
gradients in their own type, float32 masters with gradients and two moments); with adapters the weights alone, and 16 B
for each of the adapters' own, which are float32. Activations are counted, not guessed: a
copy of the architecture that is narrower by a whole factor is run on a few tokens and the tensors that autograd keeps
are added up; widths enter linearly, so two such copies tell those of the whole. A width that is no multiple of both
factors is the whole one in both copies, and what it adds is in both. Checked against a real learner, a
backward pass and a cache in tests/policies/models/test_memory.py.

Source of the state's arithmetic: arXiv 1910.02054, section 3.1, with what `Optimizer` keeps.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from policies.config import PolicyConfig
from policies.errors import PolicyError
from policies.forward import CHUNK_ELEMENTS
from policies.model_facts import Experts, width_of
from policies.models.description import describe_size, load_architecture, training_bytes
from policies.models.tiny import tiny_architecture
from policies.models.tiny_tokenizer import VocabularySample, build_tokenizer

FLOAT32 = 4
LOGIT_COPIES = 5  # float32 arrays over the vocabulary that are alive while a chunk of logits is reduced, at most
DRAWING_BYTES = 24  # a token of the vocabulary: log-probs, probabilities padded and in units, which are int64
NARROW_HEADS = (8, 16)  # width of a head of the narrow copies, where they divide that of the whole
HEAD_STEPS = (8, 4, 2)  # otherwise multiples of these, the first of which does: half a head is rotated, or a quarter
NARROW_TOKENS = 64
WIDTHS = ("hidden_size", "intermediate_size", "head_dim")
ROPE_LISTS = {"short_factor", "long_factor"}  # a number for each pair of a head's rotated ones
Narrow = Callable[[int], Any]  # a narrow copy's configuration, by its number of layers
LATENT = "kv_lora_rank"  # in the configuration of an attention whose keys and values are made of a latent vector
REMEDY = (
    "Plan without it: leave --plan out, have one step done on the GPU itself (`evergreen run SPEC --until-step 1`), "
    "and lower `learner.micro_tokens` where it does not fit"
)


@dataclass(frozen=True)
class ModelMemory:
    """Bytes that a policy of this architecture takes, part by part."""

    num_parameters: int
    bytes_each: int  # of a weight
    num_layers: int
    width: int  # of the hidden states
    vocabulary: int
    layer_bytes: float  # kept for the backward pass by one layer, a token
    cache_bytes: int  # of keys and values, a token, in all layers
    num_adapted: int | None = None  # float32 weights of adapters, which alone learn; None: all weights do
    experts: Experts | None = None  # None: every token meets all weights
    layers_kept: str | None = None  # why no layer can be run again in a backward pass; None: they can

    @classmethod
    def of(
        cls,
        architecture: Any,
        num_parameters: int,
        dtype: torch.dtype,
        num_adapted: int | None = None,
        experts: Experts | None = None,
    ) -> ModelMemory:
        """Work it out for a model's configuration. `PolicyError`: an architecture that is not made so."""
        text = architecture.get_text_config()
        try:
            if getattr(text, LATENT, None):
                raise ValueError("how its attention makes keys and values of a latent vector is not reckoned with here")
            heads: int = text.num_attention_heads
            head: int = getattr(text, "head_dim", None) or text.hidden_size // heads
            num_layers: int = text.num_hidden_layers
            layer_bytes = _of_the_whole(text, head, partial(_layer_bytes, dtype=dtype))
            is_mixed = len({*(getattr(text, "layer_types", None) or ())}) > 1  # then one layer does not tell of others
            cached = 0 if is_mixed else round(_of_the_whole(text, head, _cached_numbers))
            cached = cached or 2 * (getattr(text, "num_key_value_heads", None) or heads) * head
        except (AttributeError, ImportError, RuntimeError, TypeError, ValueError) as error:
            raise PolicyError(
                f"the memory of a {type(architecture).__name__} cannot be told beforehand: {error}. {REMEDY}"
            ) from error
        return cls(
            num_parameters=num_parameters,
            bytes_each=dtype.itemsize,
            num_layers=num_layers,
            width=width_of(architecture),
            vocabulary=text.vocab_size,
            layer_bytes=layer_bytes,
            cache_bytes=num_layers * cached * dtype.itemsize,
            num_adapted=num_adapted,
            experts=experts,
        )

    @property
    def is_short(self) -> bool:
        """Whether weights are shorter than float32 and have masters."""
        return self.bytes_each < FLOAT32

    @property
    def weights(self) -> int:
        """Of the weights, adapters beside them."""
        return self.num_parameters * self.bytes_each + (self.num_adapted or 0) * FLOAT32

    @property
    def trained(self) -> int:
        """Of the weights that learn."""
        return self.weights if self.num_adapted is None else self.num_adapted * FLOAT32

    @property
    def optimizer(self) -> int:
        """Of what stays between updates beside the weights: masters of short ones, gradients, two moments."""
        if self.num_adapted is not None:
            return self.num_adapted * FLOAT32 * 3
        return self.num_parameters * FLOAT32 * (4 if self.is_short else 3)

    @property
    def short_gradients(self) -> int:
        """Of the gradients that a backward pass leaves in short weights, until masters have taken them."""
        return self.weights if self.is_short and self.num_adapted is None else 0

    @property
    def measured_gradients(self) -> int:
        """Of gradients that are summed in float32 beside those of the learner, with those of one pass."""
        return (self.num_adapted or self.num_parameters) * FLOAT32 + self.trained

    @property
    def gathered(self) -> int:
        """Of weights that ranks gather, at most: embeddings and head, two layers, with the gradients of one layer."""
        ends = 2 * self.vocabulary * self.width
        layer = max(0, self.num_parameters - ends // 2) // self.num_layers
        return (ends + 2 * layer) * self.bytes_each + (ends + layer) * FLOAT32

    def sharded(self, num_shards: int, *, on_host: bool = False) -> int:
        """Of what one rank has for updates: its share of float32 weights, gradients and two moments.

        `num_shards`: ranks of a replica. With adapters: its share of the weights that are frozen, and all of the
        adapters', which no rank shares. `on_host`: all but its share of the weights, in their own type, is there.
        """
        if self.num_adapted is not None:
            own = self.trained if on_host else self.on_host(num_shards)
            return self.num_parameters * self.bytes_each // num_shards + own
        return self.weights // num_shards if on_host else self.on_host(num_shards)

    def on_host(self, num_shards: int) -> int:
        """Of what one rank has on its host where the optimiser is there: its share of masters, gradients, moments."""
        return training_bytes(self.num_parameters, self.num_adapted, num_shards)

    def met(self, num_tokens: int) -> float:
        """Count the weights that so many tokens meet, each of which picks its experts evenly and for itself."""
        return self.num_parameters - (0 if self.experts is None else self.experts.unmet(num_tokens))

    def activations(self, num_tokens: int, *, recomputes: bool) -> int:
        """Of what a forward pass over so many tokens keeps, with what the backward pass of a layer adds.

        That is about half of what the layer keeps; with layers recomputed each keeps its input, and one at a time the
        rest.
        """
        layer = self.layer_bytes * num_tokens
        if recomputes:
            return int(self.num_layers * num_tokens * self.width * self.bytes_each + 1.5 * layer)
        return int((self.num_layers + 0.5) * layer)

    def reading(self, num_tokens: int) -> int:
        """Of a forward pass that keeps nothing for a backward, at most: one layer at a time."""
        return int(self.layer_bytes * num_tokens)

    def logits(self, num_tokens: int) -> int:
        """Of the logits of so many tokens while they are reduced, a chunk at a time."""
        return min(num_tokens * self.vocabulary, max(CHUNK_ELEMENTS, self.vocabulary)) * FLOAT32 * LOGIT_COPIES

    def drawing(self, num_rows: int) -> int:
        """Of drawing a token for each of so many rows, all at once: their logits, and what is made of them."""
        return num_rows * self.vocabulary * (self.bytes_each + DRAWING_BYTES)

    def cache(self, num_tokens: int) -> int:
        """Of keys and values."""
        return num_tokens * self.cache_bytes


def describe_memory(config: PolicyConfig, sample: VocabularySample | None = None) -> ModelMemory:
    """Work out the memory of the policy that a spec names; of a hub name its configuration alone is fetched."""
    if config.kind == "tiny":
        tokenizer = build_tokenizer(sample or VocabularySample({}), config.vocabulary == "closed")
        architecture = tiny_architecture(config, len(tokenizer))
    else:
        architecture = load_architecture(config)
    size = describe_size(config, sample)
    dtype = getattr(torch, config.dtype)
    memory = ModelMemory.of(architecture, size.num_parameters, dtype, size.num_adapted, size.experts)
    return replace(memory, layers_kept=size.layers_kept)


def _of_the_whole(text: Any, head: int, count: Callable[[Narrow], float]) -> float:
    """Tell what a count would be at the real width, from copies whose widths are a whole factor smaller."""
    narrow_heads = _narrow_heads(head)
    factors = [head // width for width in narrow_heads]
    names = [name for name in WIDTHS if _is_narrowed(text, name, factors)]

    def at(width: int) -> float:
        return count(partial(_narrow, text, names, head // width))

    if len(narrow_heads) == 1:
        return at(head)
    low, high = narrow_heads
    return at(low) + (at(high) - at(low)) * (head - low) / (high - low)


def _layer_bytes(narrow: Narrow, dtype: torch.dtype) -> float:
    """Count the bytes a token that autograd keeps for one layer."""
    one, two = (_kept_bytes(narrow(num), dtype) for num in (1, 2))
    return (two - one) / NARROW_TOKENS


def _cached_numbers(narrow: Narrow) -> float:
    """Count the keys and values of a token in one layer; 0: it remembers something else."""
    architecture = narrow(1)
    cache = DynamicCache(config=architecture)
    if not all(isinstance(layer, DynamicLayer) for layer in cache.layers):
        return 0
    with torch.no_grad():
        _make(architecture).base_model(input_ids=torch.zeros(1, 1, dtype=torch.long), past_key_values=cache)
    kept: list[Tensor] = [one for layer in cache.layers for one in (layer.keys, layer.values) if one is not None]
    return sum(tensor.numel() for tensor in kept)


def _narrow_heads(head: int) -> tuple[int, ...]:
    """Choose two widths that divide that of a head; itself where it is narrow, or has no two divisors."""
    low, high = NARROW_HEADS
    if head > high:
        for step in HEAD_STEPS:
            fitting = [width for width in range(low, head) if head % width == 0 and width % step == 0]
            if len(fitting) > 1:
                return fitting[0], fitting[1]
    return (head,)


def _is_narrowed(text: Any, name: str, factors: Sequence[int]) -> bool:
    """Whether the configuration has this width, to be set, and all factors divide it."""
    wide = getattr(text, name, None)
    is_computed = isinstance(getattr(type(text), name, None), property)  # of the others
    return wide is not None and not is_computed and all(wide % factor == 0 for factor in factors)


def _narrow(text: Any, names: Sequence[str], factor: int, num_layers: int) -> Any:
    narrow = copy.deepcopy(text)
    for name in names:
        setattr(narrow, name, getattr(narrow, name) // factor)
    rope = getattr(narrow, "rope_parameters", None) or {}
    for name in ROPE_LISTS & rope.keys():
        rope[name] = rope[name][: len(rope[name]) // factor]
    narrow.num_hidden_layers, narrow.vocab_size = num_layers, 2 * NARROW_TOKENS
    if getattr(narrow, "layer_types", None):
        narrow.layer_types = narrow.layer_types[-num_layers:]
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        setattr(narrow, name, None)
    return narrow


def _kept_bytes(architecture: Any, dtype: torch.dtype) -> int:
    """Make a model and count what its forward pass keeps."""
    return kept_bytes(_make(architecture).to(dtype))


def _make(architecture: Any) -> Any:
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        return AutoModelForCausalLM.from_config(architecture).eval()


def kept_bytes(model: Any) -> int:
    """Run a model forward on a few tokens and add up the memory that its backward pass would read, weights left out."""
    own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in own:
            kept[place] = tensor  # alive, so that no other gets its place
        return tensor

    ids_BT = torch.zeros(1, NARROW_TOKENS, dtype=torch.long)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.base_model(input_ids=ids_BT, use_cache=False)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
