"""Many servers that are to play the same weights.

A server is known by the label of its weights. Labels given out here carry a word of this fleet's own, so that neither a
server's start weights nor those of another run are taken for ours. One that holds anything else is given the weights
before it gets work, and is checked. All of it runs on one event loop; nothing here is called from two threads. Rows are
spread over the servers in `request_batch.py`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from policies.errors import PolicyError
from policies.samplers.contracts import Generation, Request, Sampler, Sampling
from policies.samplers.serving.client import COMPLETIONS, SWAP_S, RequestRefused, Server, ServerFault
from policies.samplers.serving.weight_files import require_valid
from policies.samplers.vllm import LOGPROBS_MODE
from policies.samplers.weight_check import SERVER_SAMPLING, ServerWeightCheck

# How long a row may take on a server: what the slowest batch so far lets expect, three times over.
SLACK = 3.0
FIRST_RATE = 100.0  # tokens a second of all rows in flight, before a batch was seen
FEWEST_TOKENS = 32  # of a row that tells how fast a server writes; a shorter one tells how fast it reads prompts
SHORTEST_S = 30.0  # a first call that compiles, or a host that is busy for a moment, is no fault

OUR_ADAPTERS = "evergreen-"  # begins the name of each that is handed over
ASLEEP = "asleep"  # the label of a server whose weights were lost in its sleep

T = TypeVar("T")


class EventLoop:
    """Runs coroutines, in a thread of its own: its caller may be inside a loop (a notebook)."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="evergreen-servers", daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine beside what runs."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for a coroutine; Ctrl-C cancels it and goes on."""
        future = self.submit(work)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise

    def close(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Timeouts:
    """How fast a server was seen to write a row, and beside how many others.

    With more rows in flight each of them is slower, in proportion at worst; with fewer none is.
    """

    def __init__(self, fixed_s: float | None = None) -> None:
        self._fixed_s = fixed_s
        self._token_s: float | None = None  # of a row in the slowest batch
        self._num_rows = 0.0  # in flight, on average, in the fullest batch

    def limit_s(self, num_tokens: int, num_rows: int) -> float:
        """Give the time after which a row of at most so many tokens, one of so many in flight, is given up."""
        if self._fixed_s is not None:
            return self._fixed_s
        if self._token_s is None:
            token_s = num_rows / FIRST_RATE
        else:
            token_s = self._token_s * max(1.0, num_rows / self._num_rows)
        return max(SHORTEST_S, SLACK * num_tokens * token_s)

    def saw(self, token_s: float, num_rows: float) -> None:
        """Note a batch that went well: seconds a token of a row, and how many rows were in flight on average."""
        self._token_s = max(token_s, self._token_s or 0.0)
        self._num_rows = max(num_rows, self._num_rows)


@dataclass(frozen=True)
class HandedAdapter:
    """What learns beside frozen weights, in files, under a name that no other version has."""

    name: str
    folder: Path
    rank: int


@dataclass(frozen=True)
class Weights:
    """What the servers are to play."""

    version: int
    label: str  # what a server that holds them answers
    folder: Callable[[], Path]  # where their files are; it may have to write them first
    check: ServerWeightCheck
    is_check_due: bool  # of every server, and not only of those that come new
    adapter: HandedAdapter | None = None  # beside them

    @property
    def adapter_name(self) -> str | None:
        """What rows ask for, where an adapter is played."""
        return None if self.adapter is None else self.adapter.name


class FleetMember:
    """A server of the fleet, and how it stands."""

    def __init__(
        self,
        url: str,
        session: aiohttp.ClientSession,
        in_flight: int,
        timeout_s: float | None,
        sleep_level: int | None = None,
    ) -> None:
        self.server, self.url, self._sleep_level = Server(url, session), url, sleep_level
        self.gate = asyncio.Semaphore(in_flight)  # one row each
        self.load = 0  # rows that wait for it or are in flight
        self.timeouts = Timeouts(timeout_s)
        self._num_playing = 0  # rows in flight
        self._most_playing = 0  # of them at once, since there was none
        self.is_trusted = False  # it holds the weights and has not failed since it was last looked at
        self.proven: str | None = None  # the label that it was given, or confirmed, last
        self.received: str | None = None  # the label that came through a group, and is not confirmed yet
        self.num_met = 0  # how often it was found to hold nothing of ours: it is another process than before, perhaps
        self.absence: str | None = None  # why it is left out
        self.context: int | None = None  # most tokens of a row; None: it does not say
        self._looking: asyncio.Task[None] | None = None
        self._can_sleep = False  # it was asked, and may be put to sleep
        self._is_asleep = False  # it was put to sleep, and not woken since

    def room(self, request: Request) -> int:
        """How many tokens of its budget it could write behind a row's prompt."""
        return request.budget if self.context is None else min(request.budget, self.context - len(request.ids))

    async def play(self, request: Request, sampling: Sampling, stop_ids: Sequence[int], weights: Weights) -> Generation:
        """Play one row, within the time that this server's slowest batch lets expect. Raises as `Server` does.

        Rows that join it later make it slower, so its limit is looked at again when it is reached.
        """
        self._num_playing += 1
        self._most_playing = max(self._most_playing, self._num_playing)
        about = (weights.version, None, weights.adapter_name)
        playing = asyncio.create_task(self.server.play(request, sampling, stop_ids, *about))
        clock = asyncio.get_running_loop().time
        begun = clock()
        try:
            while not playing.done():
                limit_s = self.timeouts.limit_s(request.budget, self._most_playing)
                left_s = begun + limit_s - clock()
                if left_s <= 0:
                    raise ServerFault(f"no answer to {COMPLETIONS} in {limit_s:.0f} s")
                await asyncio.wait([playing], timeout=left_s)
            return playing.result()
        finally:
            if not playing.cancel() and not playing.cancelled():
                playing.exception()  # asyncio prints one that nobody has heard of, as of rows that are given up
            self._num_playing -= 1
            if self._num_playing == 0:
                self._most_playing = 0

    async def bring_up(self, weights: Weights, news: list[str]) -> None:
        """Look whether it holds the weights, and give them to it if not: once for all rows that wait. `ServerFault`."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._bring_up(weights, news))
        await self._looking

    async def look(self, weights: Weights, news: list[str]) -> str | None:
        """Have it awake, and ask which weights it holds: it is new, with nothing proven, if not those we know of.

        Raises `ServerFault`: it does not answer, or was not started as it is needed.
        """
        await self.server.require_healthy()
        if await self.server.is_asleep():
            if not self._is_asleep:  # by another run, which may have ended since: whatever its label says
                self.proven = None
            await self.server.wake_up()
        self._is_asleep = False
        held = await self.server.label()
        has_received = held == weights.label == self.received
        if self.proven is not None and held != self.proven and not has_received:
            news.append(
                f"{self.url}: it held the weights {held} instead of ours (restarted?), and was given them again"
            )
            self.proven = None
        if self.proven is None:
            self.num_met += not has_received
            mode = await self.server.logprobs_mode()
            if mode not in (None, LOGPROBS_MODE):  # log-probs not of the distribution that it samples from
                raise ServerFault(f"it was started with --logprobs-mode {mode}; restart it with {LOGPROBS_MODE}")
            self.context = await self.server.context()
            if self._sleep_level is not None and not await self.server.can_sleep():
                raise ServerFault(
                    f"it has no sleep mode, which sampler.sleep_level: {self._sleep_level} asks for: start it with "
                    "--enable-sleep-mode, on a GPU, or say `sleep_level: null`"
                )
            self._can_sleep = self._sleep_level is not None
        return held

    async def _bring_up(self, weights: Weights, news: list[str]) -> None:
        held = await self.look(weights, news)
        is_new, has_received = self.proven is None, held == weights.label == self.received
        is_changed = held != weights.label or is_new or has_received
        if is_changed:
            self.proven = self.received = None  # whatever happens on the way, it is not to be taken for what it was
        if is_changed and not has_received:
            folder = await asyncio.to_thread(weights.folder)
            require_valid(folder)
            await self.server.swap(folder, weights.label)
        if weights.adapter is not None and weights.adapter.name not in (known := await self.server.adapters()):
            self.proven, is_changed = None, True
            await self._load(weights.adapter)
            await self._unload(known)  # versions that no row plays any more
        if is_changed:
            if is_new or weights.is_check_due:
                await self._check(weights)
            self.proven = weights.label
        self.is_trusted = True

    async def fall_asleep(self) -> None:
        """Have it give its GPU's memory back until it is brought up again, if it may be put to sleep. `ServerFault`."""
        if self._is_asleep or not self._can_sleep or self._sleep_level is None:
            return
        self.is_trusted = False
        if self._sleep_level == 2:  # the label goes first: weights that are lost are taken for none, come what may
            known, self.proven = self.proven, None
            await self.server.set_label(ASLEEP)
            self.proven = known and ASLEEP
            await self._unload(await self.server.adapters())
        await self.server.sleep(self._sleep_level)
        self._is_asleep = True

    async def _unload(self, names: Sequence[str]) -> None:
        """Have it forget those of these adapters that were handed over."""
        for name in names:
            if name.startswith(OUR_ADAPTERS):
                await self.server.unload_adapter(name)

    async def _load(self, adapter: HandedAdapter) -> None:
        require_valid(adapter.folder)
        try:
            await self.server.load_adapter(adapter.name, adapter.folder)
        except RequestRefused as refused:
            raise ServerFault(
                f"it would not load an adapter ({refused}): start it with --enable-lora --max-lora-rank of at least "
                f"{adapter.rank} and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1, or hand weights over whole, `sampler: "
                "{hand_over: files}`"
            ) from refused

    async def _check(self, weights: Weights) -> None:
        """Refuse a server that does not play the weights it was given."""
        play, check = self.server.play, weights.check
        if self.context is not None and self.context < check.num_tokens:
            raise ServerFault(
                f"it takes rows of {self.context} tokens at most, and its weights are checked by rows of "
                f"{check.num_tokens}: start it with a larger --max-model-len"
            )
        about = (weights.version, SWAP_S, weights.adapter_name)
        rows = (play(request, SERVER_SAMPLING, (), *about) for request in check.requests)
        gap = check.gap(await asyncio.gather(*rows))
        if gap > check.limit:
            raise ServerFault(
                f"its log-probs are up to {gap:.2g} nats from the policy's own, where {check.limit:.1g} is the "
                "most that rounding explains: it does not play the weights it was given, in the policy's dtype"
            )


@dataclass
class Fleet:
    """The servers of one sampler."""

    make: Callable[[str], FleetMember]  # of its URL
    members: list[FleetMember] = field(default_factory=list)
    news: list[str] = field(default_factory=list)
    weights: Weights | None = None

    def set_servers(self, urls: Sequence[str]) -> None:
        """Play on these servers from the next batch on: those that were there stay as they are."""
        known, is_first = {member.url: member for member in self.members}, not self.members
        for url in () if is_first else [url for url in urls if url not in known]:
            self.news.append(f"{url} is a new server")
        self.news += [f"{url} is no server any more" for url in known if url not in urls]
        self.members = [known.get(url) or self.make(url) for url in urls]

    async def bring_up(self) -> list[FleetMember]:
        """Bring every server up to the weights; return those that are. Raises `PolicyError` where none is."""
        weights = self._wanted()
        for member in self.members:
            member.is_trusted = False
        looks = (member.bring_up(weights, self.news) for member in self.members)
        results = await asyncio.gather(*looks, return_exceptions=True)
        for member, result in zip(self.members, results, strict=True):
            if result is not None and not isinstance(result, ServerFault):
                raise result
            absence = None if result is None else str(result)
            if absence is not None and member.absence is None:
                self.news.append(f"{member.url} is left out, and tried again before every batch: {absence}")
            elif absence is None and member.absence is not None:
                self.news.append(f"{member.url} is back")
            member.absence = absence
        up = [member for member in self.members if member.is_trusted]
        if not up:
            reasons = "; ".join(f"{member.url}: {member.absence}" for member in self.members)
            raise PolicyError(
                f"no server can play the policy's weights. {reasons}. `evergreen serve SPEC` starts servers on this "
                "host"
            )
        return up

    async def fall_asleep(self) -> None:
        """Have every server give its GPU's memory back; those that do not are told."""
        results = await asyncio.gather(*(member.fall_asleep() for member in self.members), return_exceptions=True)
        for member, result in zip(self.members, results, strict=True):
            if isinstance(result, ServerFault):
                self.news.append(f"{member.url} was not put to sleep, and may hold memory beside the learner: {result}")
            elif result is not None:
                raise result

    async def without_adapters(self, rank: int) -> list[str]:
        """Name the servers that answer, and load no adapters of such a rank while they play."""

        async def loads(member: FleetMember) -> bool:
            try:
                return await member.server.largest_rank() >= rank
            except ServerFault:  # it is brought up later, or left out
                return True

        able = await asyncio.gather(*map(loads, self.members))
        return [member.url for member, loads_them in zip(self.members, able, strict=True) if not loads_them]

    @property
    def context(self) -> int | None:
        """The most tokens of a row that every server takes; None: none of them says."""
        return min((m.context for m in self.members if m.context is not None), default=None)

    def require_fitting(self, requests: Sequence[Request]) -> None:
        """Refuse rows that are longer than a server takes."""
        remedy = "lower max_tokens, shorten the prompts, or start it with a larger --max-model-len"
        for member in self.members:
            Sampler.require_fitting(requests, member.context, f"{member.url} takes", remedy)

    async def recall(self, member: FleetMember) -> None:
        """Bring a server up that failed in mid-batch. Raises `ServerFault`."""
        await member.bring_up(self._wanted(), self.news)

    def _wanted(self) -> Weights:
        if self.weights is None:
            raise PolicyError("no weights were given to the servers yet: call sync(version) first")
        return self.weights
