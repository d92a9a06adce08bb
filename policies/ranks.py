"""Several processes, ranks, that update one policy together, each on its share of a step's micro-batches.

Every rank has the whole batch and cuts it alike, so no plan is sent; a rank runs its share and what it found is added
up: a sum over ranks is what one process would have found, to rounding. The learner sees one object, `Alone` or
`Ranks`; how weights are spread is in `sharding.py`.
"""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import _abort_process_group as abort_groups
from torch.distributed.distributed_c10d import _set_pg_timeout as set_limit
from torch.distributed.distributed_c10d import _world

from policies.errors import NonFiniteLogits, RankLost
from policies.forward import Scored
from policies.launchers import LaunchedProcess
from policies.meeting import CONNECT, FOREVER, LaunchersPlace, connecting, gist, meet_here, meet_launched

CPU = torch.device("cpu")
ENDED_POLL_S, ENDED_POLLS = 0.1, 30  # how often a process is asked whether it has ended
TOGETHER = timedelta(minutes=30)  # on several machines: how long ranks wait for one another at a micro-batch
HEARD = timedelta(minutes=10)  # on several machines: how long a rank waits for a word of rank 0
BEAT_S = 60.0  # on several machines: how often rank 0 says that it is there
HEARTBEAT = "heartbeat"  # the command that says it
BACKENDS = ("gloo", "NCCL")  # what an error of theirs names; those of this process do not


class Countable(Protocol):
    """A micro-batch, as far as dealing looks at it."""

    @property
    def num_forwards(self) -> int:
        """Passes through the model that it takes."""


Micro = TypeVar("Micro", bound=Countable)


@dataclass(frozen=True)
class Share(Generic[Micro]):
    """A micro-batch that a rank runs."""

    micro: Micro
    counts: bool = True  # False: another rank's; it is run so that all run equally many, and what it gives is dropped


class Alone:
    """One process that does all of it."""

    rank, size = 0, 1
    leads = False  # whether it is the first of several, which tells the others what to do

    def deal(self, cut: Sequence[Micro]) -> Iterator[Share[Micro]]:
        """Give this rank's share of micro-batches."""
        return (Share(micro) for micro in cut)

    def total(self, own: Tensor) -> Tensor:
        """Add numbers up over all ranks."""
        return own

    def union(self, own: Scored) -> Scored:
        """Put together what each rank scored of a batch, 0 where it did not."""
        return own

    def merge(self, own: Mapping[str, Any]) -> list[Any]:
        """Give every rank's, in their order; JSON has to hold it."""
        return [own]

    def agree(self, decision: bool) -> bool:
        """Take rank 0's decision."""
        return decision

    def send(self, command: str, data: Mapping[str, Any] | None = None, **tensors: Tensor | None) -> None:
        """As rank 0: have the others do something; `data` as JSON, and tensors."""

    def together(self) -> AbstractContextManager[None]:
        """Work with the other ranks; raise `RankLost`, with its name, where that fails because one has ended."""
        return nullcontext()


class Ranks(Alone):
    """The processes of the default group of `torch.distributed`; each calls everything here, in the same order."""

    def __init__(
        self,
        device: torch.device = CPU,
        lost: Callable[[], str | None] | None = None,
        commands: Any = None,
        place: LaunchersPlace | None = None,
    ) -> None:
        """`device`: where this rank computes; `lost` says which other process has ended, or None while all are there.

        Without `lost` nobody here can ask them: they are of a launcher, perhaps on other machines.
        `commands`: the process group that rank 0's commands go over; None: the default one. `place`: where they met.
        """
        self.device, self._lost, self._commands, self._place = device, lost, commands, place
        self._found: str | None = None  # which other process has ended, once a failure told
        self.signal: int | None = None  # as another rank: one that was sent here, and is rank 0's to hear
        self.heed: Callable[[int], None] = lambda number: None  # as rank 0: what to do with it
        self._sending = threading.Lock()
        self._num_together = 0  # blocks under way in which the others work too, and hear no command
        self._is_broken = False  # whether such a block has failed here: the others are still in it, and hear none
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.leads = self.rank == 0

    @classmethod
    def join(
        cls,
        meeting: Path,
        rank: int,
        size: int,
        device: torch.device = CPU,
        lost: Callable[[], str | None] | None = None,
    ) -> Ranks:
        """Meet the others of this machine by a file that all see; raise `RankLost` as soon as `lost` names one.

        No limit of time: rank 0 plays and measures for as long as it takes, and a rank that has died is noticed by its
        closed connections.
        """
        ended = lost or (lambda: None)

        def look() -> None:
            if (who := ended()) is not None:
                raise _rank_lost(who)

        _init_group(rank, size, FOREVER, meet_here(meeting, rank, size, look), ended)
        return cls(device, lost)

    @classmethod
    def join_launched(cls, process: LaunchedProcess) -> Ranks:
        """Meet the others that a launcher started, on this machine or on others.

        There a rank may be lost without a word, with its machine: waiting has limits, and rank 0 has a `heartbeat`.
        Raises `RankLost`: not all have come, or one has left; PolicyError: the place to meet is another's.
        """
        num_gpus = torch.cuda.device_count()  # one, where a launcher shows each process its own alone
        device = torch.device("cuda", process.local_rank % num_gpus) if num_gpus else CPU
        place = meet_launched(process, TOGETHER)
        _init_group(process.rank, process.size, TOGETHER, place.store)
        with connecting(lambda: None):
            commands = dist.new_group(backend="gloo", timeout=CONNECT)
        set_limit(HEARD, commands)
        return cls(device, commands=commands, place=place)

    @contextmanager
    def heartbeat(self) -> Iterator[None]:
        """As rank 0: let the others know, inside the block, that it is there; they wait for no longer than `HEARD`.

        Not while they work: what is sent to a rank that does not hear it fails after as long, and all that follows.
        """
        over = threading.Event()

        def beat() -> None:
            while not over.wait(BEAT_S):
                # asked under the lock: who begins to work together has said so before it sends the command
                with self._sending, suppress(RuntimeError):  # one that is lost is told by whoever needs it
                    if not (self._num_together or self._is_broken):
                        self._send(HEARTBEAT, {})

        threading.Thread(target=beat, name="heartbeat", daemon=True).start()
        try:
            yield
        finally:
            over.set()

    @contextmanager
    def membership(self) -> Iterator[None]:
        """Part from the others when the block ends, at once where it fails."""
        try:
            yield
        except BaseException:
            self.leave(at_once=True)
            raise
        self.leave()

    def leave(self, *, at_once: bool = False) -> None:
        """Part from the others, who do so too; `at_once`: they may not, and on GPUs work of theirs is not waited for.

        That has not been run: with gloo it is the same.
        """
        abort_groups() if at_once and self.device.type == "cuda" else dist.destroy_process_group()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Work with the other ranks; raise `RankLost`, with its name, where that fails because one has ended."""
        self._num_together += 1
        try:
            yield
        except NonFiniteLogits:  # all ranks have found them
            raise
        except BaseException as error:
            self._is_broken = True
            if not isinstance(error, RuntimeError) or (who := self._lost_by(error)) is None:
                raise
            self._found = who
            raise _rank_lost(who) from error
        finally:
            self._num_together -= 1

    def let_go(self, command: str, data: Mapping[str, Any] | None = None) -> None:
        """As rank 0: say that something is over, to those who hear it."""
        if not self._is_broken:
            with suppress(RuntimeError):  # one that is lost is told by whoever needs it
                self.send(command, data)

    def part(self, exit_code: int) -> None:
        """As rank 0 of a launcher's: leave; where something failed here alone, the others end alike, and first.

        They are in its midst, and a connection closes when nothing in this process refers to it: as it ends. Where one
        was lost they all find out, and nobody has to be told.
        """
        if self._is_broken and self._found is None and self._place is not None:
            self._place.tell_end(exit_code)
        self.leave(at_once=self._is_broken)

    def ending_as_told(self) -> AbstractContextManager[None]:
        """As another rank of a launcher's: end when rank 0 fails alone in the midst of what they do together."""
        return nullcontext() if self._place is None else self._place.ending_as_told()

    def lost(self) -> str | None:
        """Say which rank has ended, as far as it is known by now; a thread may ask beside the updates."""
        return self._found or (None if self._lost is None else self._lost())

    @property
    def sees_others(self) -> bool:
        """Whether this process can tell that another has ended without working with it."""
        return self._lost is not None

    def find_lost(self) -> RankLost | None:
        """Give what is to be raised of a rank that has ended; None: none has, as far as it is known by now."""
        return None if (who := self.lost()) is None else _rank_lost(who)

    def _lost_by(self, error: RuntimeError) -> str | None:
        """Say which rank has ended, where that is what an error comes from."""
        if self._lost is None:
            is_of_backend = any(word in str(error) for word in BACKENDS)
            found = gist(error) if is_of_backend else ""
            return f"a rank has ended, or cannot be reached: its own output says why ({found})" if found else None
        for _ in range(ENDED_POLLS):  # a connection closes before its process has ended
            if (who := self._lost()) is not None:
                return who
            time.sleep(ENDED_POLL_S)
        return None

    def deal(self, cut: Sequence[Micro]) -> Iterator[Share[Micro]]:
        """Deal micro-batches of equally many forwards in turn: a gathering of weights is met by all ranks or hangs.

        Where there are not enough for all, those left over run one that is not theirs and does not count.
        """
        alike: dict[int, list[Micro]] = defaultdict(list)
        for micro in cut:
            alike[micro.num_forwards].append(micro)
        for same in alike.values():
            for first in range(0, len(same), self.size):
                place = first + self.rank
                yield Share(same[place]) if place < len(same) else Share(same[first], counts=False)

    def total(self, own: Tensor) -> Tensor:
        """Add numbers up over all ranks."""
        summed = own.clone()
        dist.all_reduce(summed)
        return summed

    def union(self, own: Scored) -> Scored:
        """Put together what each rank scored of a batch, 0 where it did not."""
        return own.map(self.total)

    def merge(self, own: Mapping[str, Any]) -> list[Any]:
        """Give every rank's, in their order; JSON has to hold it. Signals that others were sent are told rank 0."""
        signal, self.signal = self.signal, None  # one that comes from now on is told the next time
        text = torch.frombuffer(bytearray(json.dumps([own, signal]).encode()), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(sizes, torch.tensor([len(text)]))
        widest = max(int(one) for one in sizes)
        texts = [torch.zeros(widest, dtype=torch.uint8) for _ in range(self.size)]
        dist.all_gather(texts, torch.nn.functional.pad(text, (0, widest - len(text))))
        told = [json.loads(bytes(one[: int(size)].tolist())) for one, size in zip(texts, sizes, strict=True)]
        for _, number in told:
            if self.leads and number is not None:
                self.heed(number)
        return [one for one, _ in told]

    def agree(self, decision: bool) -> bool:
        """Take rank 0's decision."""
        taken = torch.tensor([int(decision)])
        dist.broadcast(taken, src=0)
        return bool(taken)

    def broadcast(self, tensor: Tensor) -> None:
        """Fill a tensor with what rank 0 has in its own; as bytes, since not every backend sends every type."""
        dist.broadcast(tensor.view(-1).view(torch.uint8), src=0)

    def send(self, command: str, data: Mapping[str, Any] | None = None, **tensors: Tensor | None) -> None:
        """As rank 0: have the others do something; `data` as JSON, and tensors."""
        with self._sending:  # the heartbeat has a thread of its own
            self._send(command, data or {}, **tensors)

    def _send(self, command: str, data: Mapping[str, Any], **tensors: Tensor | None) -> None:
        there = {name: one.cpu().contiguous() for name, one in tensors.items() if one is not None}
        shapes = {name: [str(one.dtype).removeprefix("torch."), list(one.shape)] for name, one in there.items()}
        text = json.dumps({"command": command, "data": data, "tensors": shapes}).encode()
        dist.broadcast(torch.tensor([len(text)]), src=0, group=self._commands)
        dist.broadcast(torch.frombuffer(bytearray(text), dtype=torch.uint8), src=0, group=self._commands)
        for one in there.values():
            dist.broadcast(_sendable(one), src=0, group=self._commands)

    def receive(self) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
        """As another rank: wait for what rank 0 tells; that it is there is nothing to do."""
        command, data, tensors = self._receive()
        while command == HEARTBEAT:
            command, data, tensors = self._receive()
        return command, data, tensors

    def _receive(self) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
        size = torch.zeros(1, dtype=torch.int64)
        dist.broadcast(size, src=0, group=self._commands)
        text = torch.zeros(int(size), dtype=torch.uint8)
        dist.broadcast(text, src=0, group=self._commands)
        told = json.loads(bytes(text.tolist()))
        tensors = {
            name: torch.empty(shape, dtype=getattr(torch, kind)) for name, (kind, shape) in told["tensors"].items()
        }
        for one in tensors.values():
            dist.broadcast(_sendable(one), src=0, group=self._commands)
        return told["command"], told["data"], tensors


def _init_group(
    rank: int, size: int, limit: timedelta, store: Any, lost: Callable[[], str | None] = lambda: None
) -> None:
    """Begin the default group of those who have met: gradients go over NCCL on GPUs, and all else over gloo.

    `limit` is how long they wait for one another from then on; `lost` says which of them has ended.
    """
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        with connecting(lost):
            dist.init_process_group(backend, rank=rank, world_size=size, timeout=CONNECT, store=store)
    except RankLost:
        _world.group_count = 0  # the next is found under its number, which others count from 0
        raise
    set_limit(limit)  # it may be long, and the first connections hear no signal


def _rank_lost(who: str) -> RankLost:
    return RankLost(f"{who}. `evergreen resume` goes on from the newest checkpoint")


def _sendable(tensor: Tensor) -> Tensor:
    """See a tensor of truth values as bytes, which every backend sends."""
    return tensor.view(torch.uint8) if tensor.dtype is torch.bool else tensor


def full_tensor(tensor: Tensor) -> Tensor:
    """Gather a tensor that may be sharded; every rank has to ask."""
    gather = getattr(tensor, "full_tensor", None)
    return tensor if gather is None else gather()


def local_tensor(tensor: Tensor) -> Tensor:
    """Give what of a tensor that may be sharded is here, in the same memory."""
    to_local = getattr(tensor, "to_local", None)
    return tensor if to_local is None else to_local()
