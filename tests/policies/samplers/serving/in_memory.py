"""A group whose ranks are threads of this process: sending waits for every rank, as NCCL does, until it is aborted."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from torch import Tensor

from policies.samplers.serving.weight_group import NamedTensors

LONGEST_S = 20.0  # a test that waits longer has found that something waits for ever

ROOMS: dict[int, Room] = {}  # by the port where ranks meet
APPEARED = threading.Condition()


class Room:
    """Where the ranks of one group meet."""

    def __init__(self, size: int) -> None:
        self.is_over = threading.Event()
        self._come: set[int] = set()
        self._here = threading.Condition()
        self.size = size
        self._waiting = [queue.Queue[Tensor](maxsize=1) for _ in range(size)]

    def enter(self, ranks: set[int]) -> None:
        """Wait until all ranks have come."""
        assert not ranks & self._come, f"{ranks} among {self._come}"
        assert max(ranks) < self.size
        with self._here:
            self._come |= ranks
            self._here.notify_all()
            while len(self._come) < self.size:
                if self.is_over.is_set() or not self._here.wait(LONGEST_S):
                    raise ConnectionError("the group was given up")

    def abort(self) -> None:
        self.is_over.set()
        with self._here:
            self._here.notify_all()

    def put(self, tensor: Tensor) -> None:
        """Give a tensor to all ranks but ours; the slowest holds it up."""
        for rank in range(1, self.size):
            self._until_over(lambda rank=rank: self._waiting[rank].put(tensor.detach().clone(), timeout=0.01))

    def take(self, rank: int) -> Tensor:
        taken: Tensor = self._until_over(lambda: self._waiting[rank].get(timeout=0.01))
        return taken

    def _until_over(self, call: Any) -> Any:
        for _ in range(int(LONGEST_S / 0.01)):
            if self.is_over.is_set():
                raise ConnectionError("the group was aborted")
            with suppress(queue.Full, queue.Empty):
                return call()
        raise AssertionError("nobody ended a group that hangs")


class InMemoryEnd:
    """The learner's end."""

    made: list[InMemoryEnd] = []  # noqa: RUF012

    def __init__(self, device: object) -> None:
        self.room: Room | None = None
        self.made.append(self)

    def join(self, address: str, port: int, size: int) -> None:
        self.room = Room(size)
        with APPEARED:
            ROOMS[port] = self.room
            APPEARED.notify_all()
        self.room.enter({0})

    def send(self, tensors: NamedTensors) -> None:
        assert self.room is not None
        for _, tensor in tensors:
            self.room.put(tensor)

    def leave(self) -> None:
        if self.room is not None:
            self.room.abort()


class Seat:
    """A server's end: some ranks of a room."""

    def __init__(self, port: int, offset: int, num: int, size: int) -> None:
        with APPEARED:
            if not APPEARED.wait_for(lambda: port in ROOMS, LONGEST_S):
                raise ConnectionError("nobody listens there")
        self._room, self._ranks = ROOMS[port], range(offset, offset + num)
        assert self._room.size == size
        self._room.enter(set(self._ranks))

    def receive(self, shapes: list[list[int]]) -> Iterator[Tensor]:
        """Give the tensors that come, each once though every rank takes it."""
        for shape in shapes:
            taken = [self._room.take(rank) for rank in self._ranks]
            assert list(taken[0].shape) == shape
            yield taken[0]
