"""What a run takes of one GPU's memory, part by part and when.

Counted from the policy's configuration (policies/models/memory.py) and the spec.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from orchestrator import registry
from orchestrator.errors import UserError
from orchestrator.spec import Spec
from policies.errors import PolicyError
from policies.models.memory import ModelMemory
from policies.objectives.by_environment import make_objective
from policies.samplers.serving.server_list import ServerList
from store.sentences import size_in_words

Moment = Literal["update", "play", "measure", "probe"]
MOMENTS: Mapping[Moment, str] = {
    "update": "while it updates",
    "play": "while it plays",
    "measure": "while it measures",
    "probe": "while a probe trains a copy",
}
ALWAYS: tuple[Moment, ...] = tuple(MOMENTS)
BUT_UPDATES = tuple(one for one in MOMENTS if one != "update")

CONTEXT_BYTES = 600_000_000  # of CUDA and its libraries, before any tensor
USABLE = 0.95  # of a GPU's memory: blocks of an allocator leave gaps
SAME_MEMORY = 0.05  # of a maker's figure: so much less may be told of a GPU that is here; a part of one has far less
COPYING = ("supervised", "random_labels", "rl")  # probes that train a copy


@dataclass(frozen=True)
class Gpu:
    """A GPU as its maker describes it, or one that is here."""

    name: str
    num_bytes: int
    flops: float = 0.0  # a second, dense, bfloat16; 0: not known
    bandwidth: float = 0.0  # of its memory, bytes a second; 0: not known
    rates_of: str = ""  # the GPU whose rates these are, where that is said by another name

    @property
    def usable(self) -> float:
        """Bytes of its memory that tensors may fill."""
        return USABLE * self.num_bytes


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("h100", 85_520_000_000, 989e12, 3.35e12),
        Gpu("h200", 150_750_000_000, 989e12, 4.8e12),
        Gpu("b200", 192_260_000_000, 2250e12, 8e12),
        Gpu("a100", 85_890_000_000, 312e12, 2.04e12),
        Gpu("a100-40", 42_940_000_000, 312e12, 1.555e12),
        Gpu("l40s", 48_300_000_000, 362e12, 0.864e12),
        Gpu("rtx4090", 25_750_000_000, 165e12, 1.008e12),
    )
}


def gpu_named(name: str) -> Gpu:
    """Find a GPU by its name; UserError names those there are."""
    if (found := GPUS.get(name.lower())) is None:
        raise UserError(f"--gpu {name}: not known. There are {', '.join(GPUS)}")
    return found


def gpu_here(name: str, num_bytes: int) -> Gpu:
    """Describe a GPU that is here, which the driver names so; its rates are known where name and memory are."""
    words = set(re.split(r"\W+", name.lower().replace("rtx ", "rtx")))
    for gpu in GPUS.values():
        if gpu.name.partition("-")[0] in words and abs(gpu.num_bytes - num_bytes) < SAME_MEMORY * gpu.num_bytes:
            return Gpu(name, num_bytes, gpu.flops, gpu.bandwidth, gpu.name)
    return Gpu(name, num_bytes)


@dataclass(frozen=True)
class Case:
    """A run of a policy on a kind of GPU, of which memory and rates are asked."""

    spec: Spec
    memory: ModelMemory
    gpu: Gpu
    longest: int  # tokens of the longest answer, at most
    row_tokens: Mapping[str, int]  # tokens of the longest prompt and its answer, by environment

    @property
    def kind(self) -> str:
        """The sampler's type."""
        return registry.type_of(self.spec.sampler)

    @property
    def num_tokens(self) -> int:
        """Of a forward pass of the learner: a row is never cut, however few `micro_tokens` are."""
        return max(self.spec.learner.micro_tokens or 1, self.longest_row)

    @property
    def longest_row(self) -> int:
        """Tokens of a prompt and its answer, at most."""
        return max(self.row_tokens.values())

    @property
    def played_rows(self) -> int:
        """Rows that the `transformers` sampler plays at once, at most."""
        sampler: Any = self.spec.sampler
        rows: int = sampler.rows
        return max(rows, *self._rows_of_a_prompt.values())

    @property
    def cached_tokens(self) -> int:
        """Tokens of which it has keys and values, at most."""
        sampler: Any = self.spec.sampler
        tokens: int = sampler.cache_tokens
        return max(tokens, self.prompt_tokens)

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all rows of one prompt, at most: these are never played apart."""
        return max(num * self.row_tokens[name] for name, num in self._rows_of_a_prompt.items())

    @property
    def _rows_of_a_prompt(self) -> dict[str, int]:
        sizes = self.spec.group_sizes
        return {name: max(sizes[name], self.spec.evaluate.samples) for name in self.row_tokens}

    @property
    def recomputes_layers(self) -> bool:
        """Whether an update runs layers again."""
        is_asked = self.spec.learner.recomputes_layers(self.memory.num_parameters)
        return is_asked and self.memory.layers_kept is None

    @property
    def rests(self) -> bool:
        """Whether the first rank's policy is on the host while the ranks update."""
        return self.spec.resources.ranks > 1 and self.spec.resources.offload == "optimizer"

    @property
    def engine_weights(self) -> int:
        """Bytes of the weights that an engine of vLLM has, adapters merged."""
        return self.memory.num_parameters * self.memory.bytes_each

    @property
    def engine_bytes(self) -> int:
        """What an engine of vLLM takes at least: its weights, and keys and values of one row."""
        return self.engine_weights + self.memory.cache(self.longest_row)

    @property
    def num_servers(self) -> int | None:
        """Servers that play; None: only a run finds out."""
        sampler: Any = self.spec.sampler
        if self.kind != "vllm_server" or sampler.every_address:
            return None
        try:
            return len(ServerList(sampler.urls, sampler.urls_file, sampler.every_address).read())
        except PolicyError:  # a file that is not there yet
            return None

    @property
    def has_server_beside(self) -> bool:
        """Whether a server plays on the GPU that is planned; where ranks are more than servers, on another's."""
        is_beside = self.kind == "vllm_server" and self.spec.sampler.sleep_level is not None
        return is_beside and (self.num_servers or 1) >= self.spec.resources.ranks


@dataclass(frozen=True)
class Part:
    """A part of the memory, and when it is there."""

    name: str
    num_bytes: int
    moments: tuple[Moment, ...] = ALWAYS


@dataclass(frozen=True)
class GpuMemory:
    """What lies in a GPU's memory."""

    gpu: Gpu
    parts: tuple[Part, ...]
    lacking: str = ""  # why what plays cannot start, whatever is free

    @classmethod
    def of(cls, case: Case) -> GpuMemory:
        """Count it."""
        return cls(case.gpu, tuple(_parts(case)), _lacking(case))

    def taken(self, moment: Moment) -> int:
        """Bytes at one moment."""
        return sum(part.num_bytes for part in self.parts if moment in part.moments)

    @property
    def moment(self) -> Moment:
        """When it takes most."""
        return max(MOMENTS, key=self.taken)

    @property
    def peak(self) -> int:
        """Bytes then."""
        return self.taken(self.moment)

    @property
    def fits(self) -> bool:
        """Whether the GPU holds it."""
        return not self.lacking and self.peak <= self.gpu.usable


def share_of_vllm(case: Case) -> int:
    """Give the bytes that an engine in the learner's process is let have."""
    return int(case.spec.sampler.gpu_memory_utilization * case.gpu.num_bytes)


def _lacking(case: Case) -> str:
    if case.kind != "vllm" or share_of_vllm(case) >= case.engine_bytes:
        return ""
    share, own = size_in_words(share_of_vllm(case)), size_in_words(case.engine_bytes)
    return f"vLLM's share is {share} (`sampler.gpu_memory_utilization`), and its weights and one row take {own}"


def _parts(case: Case) -> Iterator[Part]:
    """List what lies in the GPU's memory, and when."""
    yield Part("CUDA and its libraries", CONTEXT_BYTES)
    yield from _state(case)
    yield from _updates(case)
    yield from _playing(case)
    yield from _measuring(case)


def _state(case: Case) -> Iterator[Part]:
    """List weights and what trains them."""
    memory, resources = case.memory, case.spec.resources
    is_whole, is_on_host = memory.num_adapted is None, resources.offload == "optimizer"
    if resources.ranks > 1:
        moments = BUT_UPDATES if case.rests else ALWAYS
        yield Part("weights that play and are measured, on the first", memory.weights, moments)
        own = "float32 weights, gradients, two moments" if is_whole else "frozen weights, and all of the adapters"
        share = f"1/{resources.num_shards} of " if resources.num_shards > 1 else ""
        if is_on_host and is_whole:
            own = "the weights that learn"
        yield Part(f"{share}{own}", memory.sharded(resources.num_shards, on_host=is_on_host))
    else:
        masters = "float32 masters, their " if memory.is_short and is_whole else ""
        yield Part("weights", memory.weights)
        if not is_on_host:
            yield Part(f"{masters}gradients, two moments", memory.optimizer)
    if _has_reference_model(case):
        yield Part("reference policy", memory.weights)


def _has_reference_model(case: Case) -> bool:
    """Whether a second model is compared with; of adapters the reference is the same model without them."""
    return case.memory.num_adapted is None and _may_need_reference(case.spec)


def _may_need_reference(spec: Spec) -> bool:
    return make_objective(spec.objective, list(spec.environments)).may_need_reference


def _updates(case: Case) -> Iterator[Part]:
    """List what is there for an update alone."""
    memory, resources = case.memory, case.spec.resources
    now: tuple[Moment, ...] = ("update",)
    if resources.ranks > 1:
        if resources.offload == "optimizer":
            is_whole = memory.num_adapted is None
            gradients = memory.trained // resources.num_shards if is_whole else memory.trained
            yield Part("gradients of the last backward pass", gradients, now)
        yield Part("weights while they are gathered", memory.gathered, now)
    elif memory.short_gradients or resources.offload == "optimizer":
        yield Part("gradients of the last backward pass", memory.trained, now)
    activations = memory.activations(case.num_tokens, recomputes=case.recomputes_layers)
    yield Part(f"activations of {case.num_tokens:,} tokens", activations, now)
    yield Part("logits while they are reduced", memory.logits(case.num_tokens), now)


def _playing(case: Case) -> Iterator[Part]:
    """List what plays."""
    memory, sampler = case.memory, case.spec.sampler
    now: tuple[Moment, ...] = ("play",)
    if case.kind == "vllm":
        yield Part("vLLM's share: weights, keys and values", share_of_vllm(case))
    if case.has_server_beside:
        yield Part("a server beside it, at least: weights, keys and values of a row", case.engine_bytes, now)
    if case.kind == "transformers":
        if sampler.ahead:
            yield Part("weights that play ahead", memory.weights)
            now = ("update", "play")  # a thread plays while the learner updates
        yield Part(f"keys and values of {case.cached_tokens:,} tokens", memory.cache(case.cached_tokens), now)
        prefill = memory.reading(sampler.prefill_tokens)
        yield Part(f"prompts of {sampler.prefill_tokens:,} tokens being read", prefill, now)
        yield Part("logits of the rows that play", memory.drawing(case.played_rows), now)


def _measuring(case: Case) -> Iterator[Part]:
    """List what measurements and a reference add, which read the whole policy."""
    memory, measured = case.memory, [registry.type_of(one) for one in case.spec.measure.of]
    now: tuple[Moment, ...] = ("measure",)
    activations = memory.activations(case.num_tokens, recomputes=case.recomputes_layers)
    logits = memory.logits(case.num_tokens)
    if "gradients" in measured:
        yield Part("gradients of environments, in float32 and of one pass", memory.measured_gradients, now)
        yield Part("activations and logits of these", activations + logits, now)
    elif "network" in measured or _may_need_reference(case.spec):
        yield Part(f"{case.num_tokens:,} tokens read", memory.reading(case.num_tokens) + logits, now)
    if has_copying_probe(case.spec):
        copied = memory.weights + memory.optimizer + memory.short_gradients
        yield Part("a probe's copy and what trains it", copied, ("probe",))
        yield Part("activations and logits of the copy", activations + logits, ("probe",))


def has_copying_probe(spec: Spec) -> bool:
    """Whether a probe trains a copy of the policy."""
    return any(getattr(one, "kind", None) in COPYING for one in spec.measure.of)
