"""What to change of a run that a GPU does not hold: settings with which it fits, and only such.

Of each setting there are steps from the mildest to the strongest. All strongest ones are tried together, and then each
is taken back as far as the run still fits, the dearest first. Where a GPU alone is not enough, more ranks are; other
ways to the same end, adapters and a larger GPU, are said beside that.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.errors import SpecError
from orchestrator.runs.gpu_memory import COPYING, GPUS, Case, Gpu, GpuMemory, has_copying_probe
from orchestrator.spec import load_spec
from policies.config import PolicyConfig
from policies.errors import PolicyError
from policies.models.memory import ModelMemory
from policies.samplers.contracts import SamplerOptions
from store.sentences import listed, size_in_words

SMALL_MICRO_TOKENS, SMALL_CACHE_TOKENS, SMALL_ADAPTER = 4096, 65_536, 32
MOST_RANKS = 64
NOTABLY = 1.05  # larger, of a GPU: one that is here has not quite what its maker says
Describe = Callable[[PolicyConfig], ModelMemory]


@dataclass(frozen=True)
class Change:
    """Some settings of a spec, and how they are said."""

    said: str
    settings: Mapping[str, Any]  # by dotted key, as `--set` takes them

    @classmethod
    def of(cls, key: str, value: Any) -> Change:
        """Change one setting."""
        return cls(f"`{key}: {json.dumps(value) if isinstance(value, bool | None) else value}`", {key: value})


@dataclass(frozen=True)
class Proposal:
    """Changes with which a run fits a GPU."""

    gpu: str  # its name
    changes: tuple[Change, ...]
    peak: int  # of its memory, then

    def in_words(self, here: Gpu) -> str:
        """Say what to change for a run that was to be on this GPU."""
        where = "" if self.gpu == here.name else f" of one {self.gpu}"
        said = [change.said for change in self.changes]
        return f"in {size_in_words(self.peak)}{where}{' with ' if said else ''}{listed(said, len(said))}"


def proposals(case: Case, describe: Describe) -> tuple[Proposal, ...]:
    """Find what to change where a run does not fit; empty: nothing that is known here helps.

    `describe`: the memory of another policy, one with adapters.
    """
    search = Search(case, describe)
    ranks = case.spec.resources.ranks
    here = search.with_ranks(case.gpu, (), (ranks,))
    if here is not None:
        return (here,)
    more, adapter = search.more_ranks, search.adapter
    found = [search.with_ranks(case.gpu, (), more)]
    if adapter is not None:
        found.append(search.with_ranks(case.gpu, (adapter,), (ranks, *more)))
    larger = [one for one in sorted(GPUS.values(), key=_num_bytes) if one.num_bytes > NOTABLY * case.gpu.num_bytes]
    found.append(next(filter(None, (search.with_ranks(gpu, (), (ranks,)) for gpu in larger)), None))
    if not any(found):  # neither alone is enough
        both = (search.with_ranks(gpu, (), more) for gpu in larger)
        found.append(next(filter(None, both), None))
        if adapter is not None:
            both = (search.with_ranks(gpu, (adapter,), (ranks, *more)) for gpu in larger)
            found.append(next(filter(None, both), None))
    return tuple(one for one in found if one is not None)


def _num_bytes(gpu: Gpu) -> int:
    return gpu.num_bytes


class Search:
    """Looks for settings with which a run fits."""

    def __init__(self, case: Case, describe: Describe) -> None:
        self._case, self._describe = case, describe
        self._adapted: ModelMemory | None = None  # the same policy with adapters

    @property
    def more_ranks(self) -> tuple[int, ...]:
        """Numbers of ranks above the spec's own, doubled each time, so that `replicas` divides them still."""
        ranks, doubled = self._case.spec.resources.ranks, list[int]()
        while (ranks := 2 * ranks) <= MOST_RANKS:
            doubled.append(ranks)
        return tuple(doubled)

    @property
    def adapter(self) -> Change | None:
        """Have adapters learn alone; None: they do, or neither spec nor model goes with them."""
        change = Change.of("policy.adapter", SMALL_ADAPTER)
        if self._case.spec.policy.adapter is not None or self._changed(self._case.gpu, [change]) is None:
            return None
        return change

    def with_ranks(self, gpu: Gpu, fixed: Sequence[Change], numbers: Sequence[int]) -> Proposal | None:
        """Find the first number of ranks with which it fits, beside changes that are made anyway."""
        for number in numbers:
            own = [*fixed]
            if number != self._case.spec.resources.ranks:
                own.append(Change.of("resources.ranks", number))
                if self._case.kind == "vllm":  # which several ranks refuse
                    own.append(_server(self._case))
            if (found := self._with_fewest(gpu, own)) is not None:
                return found
        return None

    def _with_fewest(self, gpu: Gpu, fixed: Sequence[Change]) -> Proposal | None:
        """Find the mildest settings with which it fits, beside changes that are made anyway."""
        case = self._changed(gpu, fixed)
        if case is None:
            return None
        steps = [*_steps(case)]
        if self._changed(gpu, [*fixed, *(one[-1] for one in steps)]) is None:
            steps = [one for one in steps if self._changed(gpu, [*fixed, one[-1]]) is not None]
        chosen: list[Change | None] = [one[-1] for one in steps]
        if self._held(gpu, fixed, chosen) is None:
            return None
        for place in reversed(range(len(steps))):
            for milder in (None, *steps[place][:-1]):
                trial = [*chosen[:place], milder, *chosen[place + 1 :]]
                if self._held(gpu, fixed, trial) is not None:
                    chosen = trial
                    break
        held = self._held(gpu, fixed, chosen)
        assert held is not None
        return Proposal(gpu.name, (*fixed, *(one for one in chosen if one is not None)), held.peak)

    def _held(self, gpu: Gpu, fixed: Sequence[Change], chosen: Sequence[Change | None]) -> GpuMemory | None:
        """Give what the GPU then holds; None: not all of it, or the spec is refused."""
        case = self._changed(gpu, [*fixed, *(one for one in chosen if one is not None)])
        held = None if case is None else GpuMemory.of(case)
        return held if held is not None and held.fits else None

    def _changed(self, gpu: Gpu, changes: Sequence[Change]) -> Case | None:
        """Make the run that these changes give; None: its spec is refused, or no adapters stand beside this model."""
        settings = {key: value for change in changes for key, value in change.settings.items()}
        try:
            spec = load_spec(self._case.spec, [f"{key}={json.dumps(value)}" for key, value in settings.items()])
            memory = self._case.memory
            if spec.policy != self._case.spec.policy:
                memory = self._adapted = self._adapted or self._describe(spec.policy)
        except (SpecError, PolicyError):
            return None
        return replace(self._case, spec=spec, memory=memory, gpu=gpu)


def _steps(case: Case) -> Iterator[list[Change]]:
    """Name settings that take less, those that cost least first; of each what it can be, the mildest first."""
    spec = case.spec
    sampler: Any = spec.sampler  # the options of its engine
    if not case.recomputes_layers and case.memory.layers_kept is None:
        yield [Change.of("learner.activation_checkpointing", True)]
    if (spec.learner.micro_tokens or 0) > SMALL_MICRO_TOKENS:
        yield [Change.of("learner.micro_tokens", SMALL_MICRO_TOKENS)]
    if case.kind == "transformers":
        if sampler.cache_tokens > max(SMALL_CACHE_TOKENS, case.prompt_tokens):
            yield [Change.of("sampler.cache_tokens", SMALL_CACHE_TOKENS)]
        if sampler.ahead:
            yield [Change.of("sampler.ahead", 0)]
    elsewhere = _server(case)
    if case.kind == "vllm":
        share = math.ceil(100 * case.engine_bytes / case.gpu.num_bytes) / 100
        is_enough = share <= sampler.gpu_memory_utilization
        yield (
            [elsewhere] if is_enough or share >= 1 else [Change.of("sampler.gpu_memory_utilization", share), elsewhere]
        )
    if case.kind == "transformers":
        yield [elsewhere]
    if case.has_server_beside:
        yield [Change("servers on other GPUs (`sampler.sleep_level: null`)", {"sampler.sleep_level": None})]
    ranks, replicas = spec.resources.ranks, spec.resources.replicas
    if fewer := [number for number in reversed(range(1, replicas)) if ranks % number == 0]:
        yield [Change.of("resources.replicas", number) for number in fewer]
    if spec.resources.offload == "none":
        yield [Change.of("resources.offload", "optimizer")]
    if has_copying_probe(spec):
        left = [one.model_dump(mode="json") for one in spec.measure.of if getattr(one, "kind", None) not in COPYING]
        yield [Change("no probe that trains a copy (`measure.of`)", {"measure.of": left})]


def _server(case: Case) -> Change:
    """Have a server play, with what the spec says of episodes."""
    own = case.spec.sampler.model_dump(mode="json", include={*SamplerOptions.model_fields})
    server = {"type": "vllm_server", **own}
    return Change("a server on another GPU (`sampler: vllm_server`, `evergreen serve`)", {"sampler": server})
