"""What a run takes of one GPU: memory part by part, the rates that its arithmetic allows, and what to change.

Memory is counted from the policy's configuration (policies/models/memory.py) and the spec. Rates are ceilings: 40 % of
a GPU's bfloat16 operations for an update, 65 % of its memory's bandwidth for playing; engines reach part of that. None
of it has been compared with a GPU yet; what was compared, and with what, is in docs/scale.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from environments import Environment
from orchestrator import registry
from orchestrator.errors import UserError
from orchestrator.spec import Spec
from policies.models.memory import ModelMemory
from policies.objectives.by_environment import make_objective
from store.sentences import size_in_words

Moment = Literal["update", "play", "probe"]
MOMENTS: Mapping[Moment, str] = {
    "update": "while it updates",
    "play": "while it plays",
    "probe": "while a probe trains a copy",
}

CONTEXT_BYTES = 600_000_000  # of CUDA and its libraries, before any tensor
USABLE = 0.95  # of a GPU's memory: blocks of an allocator leave gaps
OF_OPERATIONS, OF_BANDWIDTH = 0.40, 0.65
COPYING = ("supervised", "random_labels", "rl")  # probes that train a copy
FLOPS_PER_WEIGHT = {False: 6, True: 8}  # of an update's token; with layers run again
SMALL_POLICY = 100_000_000  # weights; below that a GPU waits for the host
SMALL_MICRO_TOKENS, SMALL_CACHE_TOKENS = 4096, 65_536  # what is tried where a run does not fit


@dataclass(frozen=True)
class Gpu:
    """A GPU as its maker describes it."""

    name: str
    num_bytes: int
    flops: float  # a second, dense, bfloat16
    bandwidth: float  # of its memory, bytes a second


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


@dataclass(frozen=True)
class Part:
    """A part of the memory; without a moment it is there all the time."""

    name: str
    num_bytes: int
    moment: Moment | None = None


@dataclass(frozen=True)
class GpuPlan:
    """A run on one GPU."""

    gpu: Gpu
    parts: tuple[Part, ...]
    update_tokens_s: float | None  # at most; None: the arithmetic of a GPU says nothing about it
    play_tokens_s: float | None  # at most; None: that, or not on this GPU
    stage_s: float | None  # at least, with answers of full length
    changes: tuple[str, ...] = ()  # what makes it fit, or as small as it gets
    changed_peak: int | None = None  # with them
    notes: tuple[str, ...] = ()
    has_adapters: bool = False  # they alone learn

    def taken(self, moment: Moment) -> int:
        """Bytes at one moment."""
        return sum(part.num_bytes for part in self.parts if part.moment in (None, moment))

    @property
    def moment(self) -> Moment:
        """When it takes most."""
        return max((one for one in MOMENTS if one == "update" or self._has(one)), key=self.taken)

    @property
    def peak(self) -> int:
        """Bytes then."""
        return self.taken(self.moment)

    @property
    def fits(self) -> bool:
        """Whether the GPU holds it."""
        return self.peak <= USABLE * self.gpu.num_bytes

    @property
    def verdict(self) -> str:
        """Say whether it fits, and what to change if not."""
        most = f"{size_in_words(self.peak)} {MOMENTS[self.moment]}, of {size_in_words(self.gpu.num_bytes)}"
        if self.fits:
            return f"fits one {self.gpu.name}: {most}"
        said = f"does not fit one {self.gpu.name}: {most}"
        if not self.changes:
            return f"{said}. No setting makes it smaller: {self._remedy}"
        assert self.changed_peak is not None
        with_them = f"{said}. {' and '.join(self.changes)} would take {size_in_words(self.changed_peak)}"
        enough = self.changed_peak <= USABLE * self.gpu.num_bytes
        return with_them if enough else f"{with_them}, still too much: {self._remedy}"

    @property
    def times(self) -> str:
        """Say what its arithmetic allows, in words."""
        if self.update_tokens_s is None:
            return "not known: with so small a policy a GPU waits for the host"
        said = [f"an update reads at most {self.update_tokens_s:,.0f} tokens/s"]
        if self.play_tokens_s is not None:
            said.append(f"playing writes at most {self.play_tokens_s:,.0f}")
        if self.stage_s is not None:
            said.append(f"a stage of answers at full length at least {self.stage_s / 60:,.0f} min")
        return "; ".join(said)

    @property
    def _remedy(self) -> str:
        adapters = "" if self.has_adapters else "adapters (`policy.adapter: 32`), "
        return f"take {adapters}a smaller policy or a larger GPU (--gpu)"

    def _has(self, moment: Moment) -> bool:
        return any(part.moment == moment for part in self.parts)


def plan_gpu(spec: Spec, environments: Mapping[str, Environment], memory: ModelMemory, gpu: Gpu) -> GpuPlan:
    """Work out what a run takes of a GPU, and what to change if that is too much."""
    parts = tuple(_parts(spec, memory, gpu))
    update_s, play_s = _rates(spec, memory, gpu)
    budgets, sizes = spec.budgets, spec.group_sizes
    a_group = max(sizes[name] * budgets.tokens(one) for name, one in environments.items())
    num_tokens = spec.curriculum.stage.steps * spec.step.groups * a_group
    stage_s = num_tokens / play_s + num_tokens / update_s if play_s and update_s else None
    has_adapters = spec.policy.adapter is not None
    plan = GpuPlan(gpu, parts, update_s, play_s, stage_s, notes=tuple(_notes(spec, memory)), has_adapters=has_adapters)
    if plan.fits:
        return plan
    changes, smaller = dict[str, str](), spec
    while _peak(smaller, memory, gpu) > USABLE * gpu.num_bytes:
        now = _peak(smaller, memory, gpu)
        # the first that helps: what makes an update smaller may do so only once playing is no longer the larger
        tried = ((said, change(smaller)) for said, change in _changes(smaller))
        said, smaller = next((one for one in tried if _peak(one[1], memory, gpu) < now), ("", smaller))
        if not said:
            break
        changes[said.partition(":")[0]] = said  # replicas become fewer more than once: the last counts
    return replace(plan, changes=tuple(changes.values()), changed_peak=_peak(smaller, memory, gpu))


def _parts(spec: Spec, memory: ModelMemory, gpu: Gpu) -> Iterator[Part]:
    """List what lies in the GPU's memory, and when."""
    learner = spec.learner
    sampler: Any = spec.sampler  # the options of its engine
    num_tokens = learner.micro_tokens or 1
    activations = memory.activations(num_tokens, recomputes=learner.recomputes_layers(memory.num_parameters))
    logits = memory.logits(num_tokens)
    yield Part("CUDA and its libraries", CONTEXT_BYTES)
    num_ranks, is_whole = spec.resources.ranks, memory.num_adapted is None
    if num_ranks > 1:
        yield Part("weights that play and are measured, on the first", memory.weights)
        own = "float32 weights, gradients, two moments" if is_whole else "frozen weights, and all of the adapters"
        num_shards, is_on_host = spec.resources.num_shards, spec.resources.offload == "optimizer"
        share = f"1/{num_shards} of " if num_shards > 1 else ""
        if is_on_host and is_whole:
            own = "the weights that learn"
        yield Part(f"{share}{own}", memory.sharded(num_shards, on_host=is_on_host))
        if is_on_host:
            gradients = memory.trained // num_shards if is_whole else memory.trained
            yield Part("gradients of the last backward pass", gradients, "update")
        yield Part("weights while they are gathered", memory.gathered, "update")
    else:
        masters = "float32 masters, their " if memory.is_short and is_whole else ""
        yield Part("weights", memory.weights)
        if spec.resources.offload == "none":
            yield Part(f"{masters}gradients, two moments", memory.optimizer)
        elif not memory.short_gradients:
            yield Part("gradients of the last backward pass", memory.trained, "update")
    if is_whole and make_objective(spec.objective, list(spec.environments)).may_need_reference:
        yield Part("reference policy", memory.weights)
    kind = registry.type_of(sampler)
    if kind == "transformers" and sampler.ahead:
        yield Part("weights that play ahead", memory.weights)
    if kind == "vllm":
        yield Part("vLLM's share: weights, keys and values", int(sampler.gpu_memory_utilization * gpu.num_bytes))
    if memory.short_gradients and num_ranks == 1:
        yield Part("gradients of the last backward pass", memory.short_gradients, "update")
    yield Part(f"activations of {num_tokens:,} tokens", activations, "update")
    yield Part("logits while they are reduced", logits, "update")
    if kind == "transformers":
        yield Part(f"keys and values of {sampler.cache_tokens:,} tokens", memory.cache(sampler.cache_tokens), "play")
        prefill = memory.reading(sampler.prefill_tokens)
        yield Part(f"prompts of {sampler.prefill_tokens:,} tokens being read", prefill, "play")
        yield Part("logits of the rows that play", memory.logits(sampler.rows), "play")
    if any(getattr(one, "kind", None) in COPYING for one in spec.measure.of):
        copied = memory.weights + memory.optimizer + memory.short_gradients
        yield Part("a probe's copy and what trains it", copied, "probe")
        yield Part("activations and logits of the copy", activations + logits, "probe")


def _peak(spec: Spec, memory: ModelMemory, gpu: Gpu) -> int:
    return GpuPlan(gpu, tuple(_parts(spec, memory, gpu)), None, None, None).peak


def _rates(spec: Spec, memory: ModelMemory, gpu: Gpu) -> tuple[float | None, float | None]:
    """Give the tokens a second of an update and of playing that arithmetic allows."""
    if memory.num_parameters < SMALL_POLICY:
        return None, None
    num_flops = FLOPS_PER_WEIGHT[spec.learner.recomputes_layers(memory.num_parameters)] * memory.num_parameters
    if memory.num_adapted is not None:
        num_flops -= 2 * memory.num_parameters  # no gradient of what is frozen
    update_s = spec.resources.ranks * OF_OPERATIONS * gpu.flops / num_flops
    if registry.type_of(spec.sampler) != "vllm":  # another engine waits for the host, or is elsewhere
        return update_s, None
    num_rows = spec.step.groups * max(spec.group_sizes.values())
    read = memory.weights + memory.cache(num_rows * spec.sampler.max_tokens)
    return update_s, num_rows / (read / (OF_BANDWIDTH * gpu.bandwidth))


def _changes(spec: Spec) -> Iterator[tuple[str, Any]]:
    """Name settings that take less, those that cost least first, each with what makes it."""

    def within(section: str, **options: Any) -> Any:
        return lambda one: one.model_copy(update={section: getattr(one, section).model_copy(update=options)})

    kind, sampler = registry.type_of(spec.sampler), spec.sampler
    if spec.learner.activation_checkpointing is False:
        yield "`learner.activation_checkpointing: true`", within("learner", activation_checkpointing=True)
    if (spec.learner.micro_tokens or 0) > SMALL_MICRO_TOKENS:
        said = f"`learner.micro_tokens: {SMALL_MICRO_TOKENS}`"
        yield said, within("learner", micro_tokens=SMALL_MICRO_TOKENS)
    if kind == "transformers" and getattr(sampler, "cache_tokens", 0) > SMALL_CACHE_TOKENS:
        said = f"`sampler.cache_tokens: {SMALL_CACHE_TOKENS}`"
        yield said, within("sampler", cache_tokens=SMALL_CACHE_TOKENS)
    if kind == "transformers" and sampler.ahead:
        yield "`sampler.ahead: 0`", within("sampler", ahead=0)
    if kind == "vllm":
        yield "a server on another GPU (`evergreen serve`, `sampler: vllm_server`)", _with_server
    ranks, replicas = spec.resources.ranks, spec.resources.replicas
    if replicas > 1:
        fewer = max(number for number in range(1, replicas) if ranks % number == 0)
        yield f"`resources.replicas: {fewer}`", within("resources", replicas=fewer)
    if spec.resources.offload == "none":
        yield "`resources.offload: optimizer`", within("resources", offload="optimizer")
    if any(getattr(one, "kind", None) in COPYING for one in spec.measure.of):
        left = tuple(one for one in spec.measure.of if getattr(one, "kind", None) not in COPYING)
        yield "no probe that trains a copy (`measure.of`)", within("measure", of=left)


def _with_server(spec: Spec) -> Spec:
    """The same, played elsewhere."""
    config = registry.load(registry.find("samplers", "vllm_server")).Config
    server = config.model_construct(type="vllm_server", max_tokens=spec.sampler.max_tokens)
    return spec.model_copy(update={"sampler": server})


def _notes(spec: Spec, memory: ModelMemory) -> Iterator[str]:
    """Say what is not in the plan."""
    if spec.resources.offload == "optimizer":
        each = ", for each rank that is on it" if spec.resources.ranks > 1 else ""
        on_host = size_in_words(memory.on_host(spec.resources.num_shards))
        yield f"masters, gradients and moments take {on_host} of the host's memory{each}"
    if spec.resources.ranks > 1:
        replicas = spec.resources.replicas
        layout = f" in {replicas} replicas" if replicas > 1 else ""
        yield (
            f"{spec.resources.ranks} ranks{layout}, a GPU each: what is told is the first's, which also plays and is "
            "measured"
        )
    if spec.warm_start is not None and spec.warm_start.num_batches:
        yield "the warm start is not in it: its batches are fed whole"
    if registry.type_of(spec.sampler) == "vllm_server":
        if getattr(spec.sampler, "sleep_level", None) is None:
            yield "servers play on GPUs of their own, which are not in it"
        else:
            yield "servers sleep while it learns, and take the share they were started with while they play: not in it"
    if registry.type_of(spec.sampler) == "transformers":
        yield "how fast the `transformers` sampler plays on a GPU is not known: kernels are launched one by one"
