"""A group in which servers receive weights from the learner: it is rank 0, then come the workers of each server.

A group is of the processes that made it. When one of them is gone, nothing can be sent through it any more, and it has
to be made again; so every call here either succeeds whole or raises `GroupBroken`, after which only `close` is left.
What is said over HTTP is said by `Server`; tensors go through a `GroupEnd`, of which that of NCCL is in `nccl`.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import accumulate
from typing import Any, Protocol
from urllib.parse import urlsplit

from torch import Tensor

from policies.samplers.serving.client import SWAP_S, RequestRefused, Server, ServerFault

JOIN_S = 120.0  # for all ranks to come
LEAVE_S = 60.0  # for the learner's end to end
BUFFER_BYTES, NUM_BUFFERS = 2**29, 2  # tensors travel together, about so many bytes at a time

NamedTensors = Sequence[tuple[str, Tensor]]


class GroupBroken(Exception):
    """The group cannot be used any more, and has to be made again."""


class GroupEnd(Protocol):
    """The learner's end of a group, rank 0. Used once; `join` and `send` block, and run in a thread of their own."""

    def join(self, address: str, port: int, size: int) -> None:
        """Listen at an address for the other ranks, and return when all `size` are there."""

    def send(self, tensors: NamedTensors) -> None:
        """Send tensors to all other ranks, and return when they have left."""

    def leave(self) -> None:
        """End the group, and whatever of it another thread waits for, as far as that can be ended."""


class WeightGroup:
    """The servers that are in a group with the learner; none, if there is no group."""

    def __init__(self, make_end: Callable[[], GroupEnd]) -> None:
        self.members: tuple[Server, ...] = ()
        self._make_end = make_end
        self._end: GroupEnd | None = None

    async def connect(self, servers: Sequence[Server]) -> None:
        """Make a group with these servers, which leave the one they are in. Raises `GroupBroken`."""
        await self.close()
        self.members, self._end = tuple(servers), self._make_end()
        await _all({one: one.leave_group() for one in servers}, SWAP_S)
        num_workers = await _all({one: one.num_workers() for one in servers}, SWAP_S)
        offsets = dict(zip(servers, accumulate(num_workers.values(), initial=1), strict=False))
        size = 1 + sum(num_workers.values())
        address, port = _meeting_place([one.url for one in servers])
        meeting = {
            **{"master_address": address, "master_port": port, "world_size": size},
            **{"packed": True, "packed_buffer_size_bytes": BUFFER_BYTES, "packed_num_buffers": NUM_BUFFERS},
        }
        joining = {one: one.join_group(meeting | {"rank_offset": offsets[one]}) for one in servers}
        await _all(joining, JOIN_S, partial(self._end.join, address, port, size))

    async def send(self, tensors: NamedTensors, label: str) -> None:
        """Have all servers of the group play these weights under this label. Raises `GroupBroken`."""
        assert self._end is not None, "connect comes first"
        announced = {
            "names": [name for name, _ in tensors],
            "dtype_names": [str(one.dtype).removeprefix("torch.") for _, one in tensors],
            "shapes": [list(one.shape) for _, one in tensors],
        }
        await _all({one: one.begin_update() for one in self.members}, SWAP_S)
        receiving = {one: one.receive(announced) for one in self.members}
        await _all(receiving, SWAP_S, partial(self._end.send, tensors))
        await _all({one: one.end_update(label) for one in self.members}, SWAP_S)

    async def close(self) -> None:
        """End the group, also one that is broken; servers that answer are in none and in no update afterwards."""
        members, end, self.members, self._end = self.members, self._end, (), None
        if end is not None:
            with suppress(Exception):  # what is broken may refuse to end, or never do so: files are left
                await asyncio.wait_for(_in_thread(end.leave), LEAVE_S)
        await asyncio.gather(*map(_let_go, members))


async def _let_go(server: Server) -> None:
    with suppress(ServerFault, RequestRefused):  # it is brought up later, or left out
        await server.leave_group()


async def _all(
    asked: Mapping[Server, Coroutine[Any, Any, Any]], limit_s: float, own: Callable[[], None] | None = None
) -> dict[Server, Any]:
    """Wait until all servers have answered, and our own part is done; the first that fails breaks the group."""
    tasks: dict[asyncio.Future[Any], Server | None] = {
        asyncio.ensure_future(one): server for server, one in asked.items()
    }
    if own is not None:
        tasks[_in_thread(own)] = None
    try:
        done, missing = await asyncio.wait(tasks, timeout=limit_s, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()  # what has ended already stays as it is
    errors = {tasks[one]: error for one in done if (error := one.exception()) is not None}
    for server, error in errors.items():
        if server is not None and not isinstance(error, ServerFault):
            raise error
    if errors:
        raise GroupBroken("; ".join(f"{_name(server)}: {_words(error)}" for server, error in errors.items()))
    if missing:
        late = ", ".join(_name(tasks[one]) for one in missing)
        raise GroupBroken(f"not done in {limit_s:.0f} s: {late}")
    return {server: one.result() for one, server in tasks.items() if server is not None}


def _name(server: Server | None) -> str:
    return "the learner's end" if server is None else server.url


def _words(error: BaseException) -> str:
    """Give the first of what an error says; torch's go on with a stack."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _in_thread(call: Callable[[], None]) -> asyncio.Future[None]:
    """Run what may never end: its thread holds up neither the loop nor the end of the process."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def settle(error: Exception | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

    def run() -> None:
        found: Exception | None = None
        try:
            call()
        except Exception as error:  # whatever NCCL says
            found = error
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, found)

    threading.Thread(target=run, name="evergreen-weights", daemon=True).start()
    return future


def _meeting_place(urls: Sequence[str]) -> tuple[str, int]:
    """Find the address by which servers reach this host, one that all of them can, and a free port."""
    addresses = [_address_towards(urlsplit(url).hostname or "") for url in urls]
    address = next((one for one in addresses if not one.startswith("127.")), addresses[0])
    with socket.socket() as probe:
        probe.bind((address, 0))
        return address, probe.getsockname()[1]


def _address_towards(host: str) -> str:
    """Give our own address on the way to a host; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))
        except OSError as unknown:
            raise GroupBroken(f"there is no way to {host}: {unknown}") from unknown
        return str(probe.getsockname()[0])
