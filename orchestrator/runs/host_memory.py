"""What a run takes of a machine's own memory beside that of its GPUs, part by part and when.

Counted from the spec and the policy's size, as docs/decisions/0029 has it. What Python, its libraries, environments and
their data take is not in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from orchestrator.registry import type_of
from orchestrator.spec import Spec
from policies.models.description import BYTES, ModelSize, training_bytes
from store.sentences import num, size_in_words

HostMoment = Literal["start", "update", "change"]
HOST_MOMENTS: Mapping[HostMoment, str] = {
    "start": "while it starts",
    "update": "while it updates",
    "change": "while weights are changed between updates",
}
GOING_ON: tuple[HostMoment, ...] = ("update", "change")

MOST_GPUS = 8  # of a machine, where nothing says how many it has
CHANGE_NO_WEIGHTS = ("reset_optimizer", "merge_adapters", "reset_adapters")  # of interventions


@dataclass(frozen=True)
class HostPart:
    """A part of the memory, for all ranks of the machine together, and when it is there."""

    name: str
    num_bytes: int
    moments: tuple[HostMoment, ...]


@dataclass(frozen=True)
class HostMemory:
    """What lies in the memory of the machine that has the first rank, and no machine has more."""

    num_ranks: int  # on it, a GPU each
    parts: tuple[HostPart, ...]

    @classmethod
    def of(cls, spec: Spec, size: ModelSize, num_ranks: int | None = None) -> HostMemory:
        """Count it for a machine with so many of the ranks; None: with all, up to eight."""
        here = min(spec.resources.ranks, MOST_GPUS) if num_ranks is None else num_ranks
        return cls(here, tuple(_parts(spec, size, here)))

    def taken(self, moment: HostMoment) -> int:
        """Bytes at one moment."""
        return sum(part.num_bytes for part in self.parts if moment in part.moments)

    @property
    def moment(self) -> HostMoment:
        """When it takes most."""
        return max(HOST_MOMENTS, key=self.taken)

    @property
    def peak(self) -> int:
        """Bytes then."""
        return self.taken(self.moment)

    @property
    def in_words(self) -> str:
        """Say how much that is, and when."""
        return (
            f"{size_in_words(self.peak)} {HOST_MOMENTS[self.moment]}, on a machine with {num(self.num_ranks, 'rank')}"
        )


def _parts(spec: Spec, size: ModelSize, here: int) -> Iterator[HostPart]:
    """List what lies in the memory of a machine with so many ranks, the first among them."""
    resources, is_whole = spec.resources, size.num_adapted is None
    num_bytes = BYTES[spec.policy.dtype]
    weights = size.num_parameters * num_bytes + (size.num_adapted or 0) * BYTES["float32"]
    shards = resources.num_shards
    each = f", of {here} ranks" if here > 1 else ""
    if resources.ranks > 1:
        read = f"the policy as each of {here} ranks reads it, and once more for the first"
        yield HostPart(read, (here + 1) * weights, ("start",))
    else:
        yield HostPart("the policy as it is read", weights, ("start",))
    if resources.offload == "optimizer":
        own = training_bytes(size.num_parameters, size.num_adapted, shards)
        yield HostPart(f"float32 weights, gradients, two moments{each}", here * own, GOING_ON)
        if resources.ranks > 1:
            yield HostPart("the first's policy", weights, ("update",))
    if spec.checkpoint.background:
        writers = min(here, shards) if is_whole else 1  # of copies the first is written
        own = size.optimizer_bytes // shards if is_whole else size.optimizer_bytes
        of = f", of {writers} ranks" if writers > 1 else ""
        yield HostPart(f"copy of the optimiser's state for a checkpoint{of}", writers * own, GOING_ON)
        yield HostPart("copy of the weights for a checkpoint", size.weights_bytes, GOING_ON)
    if resources.ranks > 1 and is_whole and _changes_weights(spec):
        gathered = size.num_parameters * (BYTES["float32"] + num_bytes)
        yield HostPart("weights that are changed, in float32, and those of before", gathered, ("change",))


def _changes_weights(spec: Spec) -> bool:
    """Whether something may change weights between updates."""
    goes_back = any(one.action == "roll_back" for one in spec.guards.of)
    return goes_back or any(type_of(one) not in CHANGE_NO_WEIGHTS for one in spec.interventions)
