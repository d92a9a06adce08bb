"""How ranks meet before they are a group.

They ask a store again and again: torch's own wait for the others hears no signal, and does not notice who has left.
Only what connects them in the end is torch's, once each knows that all have come, and with a limit.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist

from policies.errors import PolicyError, RankLost
from policies.launchers import MEETING, LaunchedProcess, hear_signals

CONNECT = timedelta(minutes=2)  # how long it may take to connect those who have come
LOOK_HERE_S = 0.05  # between two looks at whether all have come, on this machine
LOOK_S, SAID_S, MEET_S = 0.2, 10.0, 1800.0  # of a launcher: the same, when it is said, and when it is given up
STAY_S = 10.0  # there: how long who leaves waits for those who are to be told
END_S = 1.0  # there: between two looks at whether rank 0 has told the end
PROBE_S, OPEN = 1.0, timedelta(seconds=10)  # there: how long a connection to the place may take, and its first answer
GONE = "gone"  # the key that holds the rank which was the first to leave
ENDED = "ended"  # the key that holds rank 0's exit code, where the others hear no command any more
UNCONNECTED = ("connectFullMesh", "Wait timeout")  # in errors of torch, where one of those who had come is not there
FOREVER = timedelta(days=365)


def meet_here(path: Path, rank: int, size: int, look: Callable[[], None]) -> Any:
    """Wait until all ranks of this machine have come to a file, and give the store in it.

    `look` is called in between, and raises what ends the wait.
    """
    store = dist.FileStore(str(path), size)  # type: ignore[attr-defined]
    place = dist.PrefixStore("met", store)  # type: ignore[attr-defined]
    _gather(place, rank, size, look, LOOK_HERE_S)
    store.set_timeout(FOREVER)
    return place


def meet_launched(process: LaunchedProcess, limit: timedelta) -> LaunchersPlace:
    """Wait until all have come to the launcher's place; the store there waits for so long from then on.

    Who leaves before that says so there, and the others leave at once. Raises RankLost: not all come, or one has left;
    PolicyError: the place is another's. Signals that were held are heard once the others can be told.
    """
    place = LaunchersPlace(process)
    try:
        while not place.is_open():
            place.wait()
        hear_signals()
        _gather(place.store, process.rank, process.size, place.look, LOOK_S)
    except (dist.DistNetworkError, dist.DistStoreError):
        whose = "the launcher's agent" if place.is_agents else "rank 0"
        raise RankLost(f"{place.who}: {whose} has left {place.where} before all had come") from None
    except BaseException:
        place.leave()
        raise
    place.store.set_timeout(limit)
    return place


@contextmanager
def connecting(lost: Callable[[], str | None]) -> Iterator[None]:
    """Raise `RankLost` where the block's first connections fail, which they do as one that had come has ended.

    `lost` says which it is, if that is known here.
    """
    try:
        yield
    except RuntimeError as error:
        is_of_store = isinstance(error, dist.DistNetworkError | dist.DistStoreError)
        if not is_of_store and not any(word in str(error) for word in UNCONNECTED):
            raise
        who = lost() or f"a rank has ended before all were connected: its own output says why ({gist(error)})"
        raise RankLost(f"{who}. `evergreen resume` goes on from the newest checkpoint") from None


def gist(error: BaseException) -> str:
    """Give the first sentence of what a backend says, without the place in its source."""
    first = next(iter(str(error).splitlines()), "")
    return re.sub(r"^(Gloo connectFullMesh failed with )?\[\S+:\d+\] ", "", first).split(". ")[0].rstrip(". ")


def _gather(store: Any, rank: int, size: int, look: Callable[[], None], every_s: float) -> None:
    """Wait until all have come, and then until all know it: one that leaves in between is missed by the others here."""
    for what in ("here", "all"):
        store.set(f"{what}/{rank}", "")
        every = [f"{what}/{other}" for other in range(size)]
        look()
        while not store.check(every):
            time.sleep(every_s)
            look()


class LaunchersPlace:
    """Where processes of a launcher meet: a store that rank 0 opens, or the agent that started them."""

    def __init__(self, process: LaunchedProcess) -> None:
        self._address, port = (os.environ[name] for name in MEETING)
        self._port, self._process = int(port), process
        self.where = f"{self._address}:{port} (MASTER_ADDR, MASTER_PORT)"
        self.who = f"rank {process.rank} of {process.size}"
        self.is_agents = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # torchrun's, which has opened it
        self._opens = process.rank == 0 and not self.is_agents
        self._begun_at, self._has_said = time.monotonic(), False
        self.store: Any = None

    def is_open(self) -> bool:
        """Open the store, or look whether it is open."""
        if not self._opens and not self._answers():
            return False
        try:
            store = dist.TCPStore(  # type: ignore[attr-defined]
                *(self._address, self._port, self._process.size, self._opens, OPEN),
                wait_for_workers=False,
                multi_tenant=True,
            )
        except (dist.DistNetworkError, dist.DistStoreError) as error:
            if self._opens:
                raise PolicyError(f"processes of the launcher cannot meet at {self.where}: {gist(error)}") from None
            return False
        restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # an agent's store outlives the processes
        self.store = dist.PrefixStore(f"evergreen/{restart}", store)  # type: ignore[attr-defined]
        return True

    def wait(self) -> None:
        """Let some time go by until the store is open; a signal is not held for long."""
        if time.monotonic() - self._begun_at > STAY_S:
            hear_signals()
        self._require_time()
        time.sleep(LOOK_S)

    def look(self) -> None:
        """Raise what ends the wait for the others."""
        if self.store.check([GONE]):
            gone = f"rank {self.store.get(GONE).decode()} has left {self.where} before all had come"
            raise RankLost(f"{self.who}: {gone}; its own output says why")
        self._require_time()

    def leave(self) -> None:
        """Tell the others, also those who are about to come where the store ends with this process."""
        if self.store is None:
            return
        with suppress(RuntimeError):  # who hears nothing finds the store gone
            self.store.compare_set(GONE, "", str(self._process.rank))  # the first stays
            self._part(waits=self._opens)  # the store ends with this process

    def tell_end(self, exit_code: int) -> None:
        """As rank 0: have the others, who hear no command, end with the same; this waits for them a while."""
        with suppress(RuntimeError):
            self.store.set(ENDED, str(exit_code))
            self._part(waits=True)

    @contextmanager
    def ending_as_told(self) -> Iterator[None]:
        """As another rank: end the process as soon as rank 0 tells it in the block, whatever the block waits for."""
        over = threading.Event()

        def look() -> None:
            with suppress(RuntimeError):  # the store is gone: whoever works with rank 0 finds out
                while not over.wait(END_S):
                    if self._answers() and self.store.check([ENDED]):
                        exit_code = int(self.store.get(ENDED))
                        self._part()
                        os._exit(exit_code)

        threading.Thread(target=look, name="end of rank 0", daemon=True).start()
        try:
            yield
        finally:
            over.set()

    def _answers(self) -> bool:
        """Whether anybody listens; where nobody does, torch's own attempt writes a page on stderr."""
        try:
            socket.create_connection((self._address, self._port), PROBE_S).close()
        except OSError:
            return False
        return True

    def _part(self, *, waits: bool = False) -> None:
        """Say that this process has left, and, if so asked, wait a while until all others have."""
        self.store.set(f"left/{self._process.rank}", "")
        until = time.monotonic() + STAY_S
        while waits and time.monotonic() < until:
            if self.store.check([f"left/{rank}" for rank in range(self._process.size)]):
                break
            time.sleep(LOOK_S)

    def _require_time(self) -> None:
        waited_s = time.monotonic() - self._begun_at
        if waited_s > MEET_S:
            within = f"within {MEET_S / 60:.0f} minutes"
            raise RankLost(f"{self.who}: not all processes of the launcher came to {self.where} {within}")
        if waited_s > SAID_S and not self._has_said:
            self._has_said = True
            print(f"{self.who} waits for the launcher's other processes at {self.where}", file=sys.stderr, flush=True)
