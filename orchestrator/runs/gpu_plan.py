"""What a run takes of a GPU and of its host: memory by part, the rates that arithmetic allows, and what to change.

None of it has been compared with a GPU yet; what was compared, and with what, is in docs/scale.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from environments import Environment
from orchestrator.measurements.budget import LookingPlan
from orchestrator.rollout.task_supply import most_tokens
from orchestrator.runs.first_prompts import PromptLengths
from orchestrator.runs.gpu_changes import MOST_RANKS, Describe, Proposal, proposals
from orchestrator.runs.gpu_memory import MOMENTS, Case, Gpu, GpuMemory
from orchestrator.runs.gpu_rates import Rates
from orchestrator.runs.host_memory import MOST_GPUS, HostMemory
from orchestrator.spec import Spec
from policies.errors import PolicyError
from policies.models.description import ModelSize
from store.sentences import listed, num, percent, size_in_words


@dataclass(frozen=True)
class GpuPlan:
    """A run on GPUs of one kind."""

    held: GpuMemory
    host: HostMemory
    rates: Rates
    proposals: tuple[Proposal, ...] = ()  # what makes it fit, if it does not
    notes: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether the GPU holds it."""
        return self.held.fits

    @property
    def verdict(self) -> str:
        """Say whether it fits, and what to change if not."""
        held, gpu = self.held, self.held.gpu
        most, size = f"{size_in_words(held.peak)} {MOMENTS[held.moment]}", size_in_words(gpu.num_bytes)
        if held.fits:
            return f"fits one {gpu.name}: {most}, of {size}"
        too_much = f"{most}, of {size} of which {size_in_words(gpu.usable)} can be used"
        said = f"does not fit one {gpu.name}: {too_much if held.peak > gpu.usable else held.lacking}"
        if self.proposals:
            return f"{said}. It would fit {'; or '.join(one.in_words(gpu) for one in self.proposals)}"
        tried = f"other settings, adapters where they are possible, up to {MOST_RANKS} ranks, larger GPUs"
        return f"{said}. Nothing known here makes it fit ({tried}): take a smaller policy"


def plan_gpu(
    spec: Spec,
    environments: Mapping[str, Environment],
    describe: Describe,
    gpu: Gpu,
    looking: LookingPlan,
    prompts: Mapping[str, PromptLengths],
) -> GpuPlan:
    """Work out what a run takes of a GPU, and what to change if that is too much.

    `describe` works out the memory of a policy; `looking`: what is evaluated when; `prompts`: how long they are,
    by environment, none where that is not known. `PolicyError`: layers are to be run again and cannot be.
    """
    longest = max(spec.budgets.tokens(one) for one in environments.values())
    rows = _longest_rows(spec, environments, prompts)
    case = Case(spec, describe(spec.policy), gpu, longest, rows)
    if spec.learner.activation_checkpointing and case.memory.layers_kept is not None:
        raise PolicyError(f"activation_checkpointing: {spec.policy.model} {case.memory.layers_kept}")
    held, rates = GpuMemory.of(case), Rates.of(case, environments, looking, prompts)
    memory = case.memory
    size = ModelSize.of(
        memory.num_parameters, memory.width, spec.policy, memory.num_adapted, saves_base=spec.saves_base
    )
    return GpuPlan(
        held,
        HostMemory.of(spec, size),
        rates,
        () if held.fits else proposals(case, describe),
        (*_notes(case, held), *_row_notes(environments, prompts), *_time_notes(case, rates)),
    )


def _longest_rows(
    spec: Spec, environments: Mapping[str, Environment], prompts: Mapping[str, PromptLengths]
) -> dict[str, int]:
    """Give the tokens of the longest prompt and its answer, by environment; of unknown ones what they may have."""
    return {
        name: spec.budgets.tokens(one)
        + (prompts[name].longest if name in prompts else most_tokens(one, spec.budgets, None) or 0)
        for name, one in environments.items()
    }


def _row_notes(environments: Mapping[str, Environment], prompts: Mapping[str, PromptLengths]) -> Iterator[str]:
    """Say what rows have that is not counted."""
    if unknown := [name for name in environments if name not in prompts]:
        yield (
            f"how long prompts are is not known without the policy's tokenizer ({listed(unknown)}): updates are timed "
            "without them, and rows have what `max_prompt_tokens` allows them, else none"
        )
    if several := [name for name, one in environments.items() if not one.has_single_turns]:
        yield (
            f"what environments reply between turns is not in rows ({listed(several)}): these may be longer, up to the "
            "policy's context"
        )


def _notes(case: Case, held: GpuMemory) -> Iterator[str]:
    """Say what is not in the plan."""
    spec, resources = case.spec, case.spec.resources
    if case.rests:
        own = size_in_words(case.memory.weights)
        yield (
            f"the first's policy, {own}, is in its host's memory while the ranks update: the time that its way there "
            "and back takes is not in the speed"
        )
    if resources.ranks > 1:
        layout = f" in {resources.replicas} replicas" if resources.replicas > 1 else ""
        ranks = f"{resources.ranks} ranks{layout}, a GPU each"
        yield f"{ranks}: what is told is the first's, which also plays and is measured"
    if resources.ranks > MOST_GPUS:
        yield f"machines of {MOST_GPUS} GPUs are reckoned with: what is told of a host is the first machine's"
    if spec.warm_start is not None and spec.warm_start.num_batches:
        yield "the warm start is not in it: its batches are fed whole"
    if any(one.estimator == "weighted" for one in spec.objectives.values()):
        yield "a float32 gradient for each component of the score (`weighted`) is not in it"
    if case.kind == "vllm_server":
        yield from _server_notes(case, held)


def _time_notes(case: Case, rates: Rates) -> Iterator[str]:
    """Say what is not in a stage's time."""
    if case.kind == "transformers":
        yield "how fast the `transformers` sampler plays on a GPU is not known: kernels are launched one by one"
    if rates.stage is None:
        return
    if case.gpu.rates_of:
        yield f"rates are those of a GPU that `--gpu {case.gpu.rates_of}` names"
    ranks, micro_batches = case.spec.resources.ranks, max(1, math.ceil(rates.stage.micro_batches))
    if ranks > micro_batches:
        yield (
            f"an update is {micro_batches} micro-batch{'es' * (micro_batches > 1)} of {case.num_tokens:,} tokens, "
            f"one a rank: of {ranks} ranks the others save memory and no time; lower `learner.micro_tokens`, or take "
            "larger steps"
        )
    else:
        whole, rest = divmod(rates.stage.micro_batches, ranks)
        fewer = math.ceil(rates.stage.micro_batches / (whole + 1))
        if rest >= 1 and fewer < ranks:  # a full one is left for the last round
            yield (
                f"an update is {micro_batches} micro-batches of {case.num_tokens:,} tokens, which {num(ranks, 'rank')} "
                f"run in {num(int(whole) + 1, 'round')}, as {num(fewer, 'rank')} would: in the last some wait"
            )
    if (experts := case.memory.experts) is not None:
        yield (
            f"a token meets {percent(experts.share or 0)} of the experts' weights: an update reckons with these, "
            "playing with what its rows meet together, where each picks evenly and for itself"
        )
    if case.spec.measure.of:
        yield "what `measure` looks at takes time of its own, which is not in the stage's"


def _server_notes(case: Case, held: GpuMemory) -> Iterator[str]:
    if case.num_servers is None:
        yield "how many servers there will be is not known here: one is reckoned with"
    if case.spec.sampler.sleep_level is None:
        yield "servers play on GPUs of their own, which are not in it"
    else:
        yield "servers sleep while it learns: no time is reckoned for that, nor for waking"
    if case.has_server_beside and held.fits:
        free = case.gpu.usable - held.taken("play") + case.engine_bytes
        share = math.floor(100 * free / case.gpu.num_bytes) / 100
        yield f"for a server beside it there is room while it plays: `--gpu-memory-utilization {share:.2f}` or less"
    elif case.engine_bytes > case.gpu.usable:
        yield (
            f"a server's weights and one row take {size_in_words(case.engine_bytes)}, which a GPU like this does not "
            "hold: servers need larger ones"
        )
