"""Rows spread over the servers of a fleet: a batch that is known from the start, or one that grows while it is played.

Any server that holds the weights answers a request equally well, so a row is asked for again where one fails. Its place
in the result is filled once: whatever fails, no row is doubled and none is missing. All of it runs on the fleet's event
loop.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from policies.errors import PolicyError
from policies.samplers.contracts import Generation, Request, RowStream, Sampling
from policies.samplers.serving.client import ServerFault
from policies.samplers.serving.fleet import FEWEST_TOKENS, EventLoop, Fleet, FleetMember, Weights

ATTEMPTS = 3
FIRST_PAUSE_S = 0.5  # doubled before each further attempt, and up to half as long again
MOST_LOST = 0.1  # of a batch
OTHER_WEIGHTS = (
    "something else gives the servers other weights while they play for this run: servers belong to one run at a time"
)


@dataclass
class RequestBatch:
    """The rows of one batch. Used once."""

    fleet: Fleet
    members: Sequence[FleetMember]
    sampling: Sampling
    stop_ids: Sequence[int]
    weights: Weights
    jitter: random.Random

    def __post_init__(self) -> None:
        self.requests: list[Request] = []
        self.num_episodes = 0  # of the whole batch, where its rows come one by one
        self._played: dict[int, Generation] = {}  # by the row's place among the requests
        self._by: dict[int, FleetMember] = {}
        self._row_s: dict[int, float] = {}  # how long the server had it
        self._busy_s: dict[FleetMember, float] = defaultdict(float)  # while it had rows
        self._busy_since: dict[FleetMember, float] = {}
        self._num_failed: dict[FleetMember, int] = defaultdict(int)
        self._num_given_up = 0  # rows
        self._last: dict[FleetMember, str] = {}
        self._home_of_prompt: dict[tuple[int, ...], FleetMember] = {}
        self._home_of_episode: dict[int, FleetMember] = {}
        self._budget_at: dict[FleetMember, int] = defaultdict(int)  # tokens of the rows that it was given so far
        self._episode_of: dict[int, int] = {}  # by row

    async def run(self, requests: Sequence[Request]) -> list[Generation]:
        """Play every row, in order. `PolicyError`: a request that no server would take, or too many rows are lost."""
        self.requests = list(requests)
        homes = spread(requests, self.members)
        rows, rounds = list(homes), 0
        while rows:
            try:
                async with asyncio.TaskGroup() as tasks:
                    for row in rows:
                        tasks.create_task(self._play(row, homes[row]))
            except* PolicyError as errors:  # the first that no other server would mend ends all of them
                raise errors.exceptions[0] from None
            rows, rounds = await self._with_other_weights(), rounds + 1
            if rows and rounds == ATTEMPTS:
                raise PolicyError(OTHER_WEIGHTS)
        self._tell()
        return [self._played[row] for row in range(len(requests))]

    async def play_next(self, request: Request, episode: int) -> Generation:
        """Play one row more of an episode, where its earlier ones and those of its prompt were played."""
        row = len(self.requests)
        self.requests.append(request)
        self._episode_of[row] = episode
        await self._play(row, self._home(request, episode))
        return self._played[row]

    async def end(self) -> frozenset[int]:
        """Give the episodes that were played by a server which did not hold the weights all the time."""
        doubted = frozenset(self._episode_of[row] for row in await self._with_other_weights())
        self._tell()
        return doubted

    def _home(self, request: Request, episode: int) -> FleetMember:
        """Choose a server for a row: one that may have cached its beginning, else that with the least to do."""
        known = self._home_of_episode.get(episode) or self._home_of_prompt.get(request.ids)
        home = known or min(self.members, key=lambda member: self._budget_at[member])
        self._home_of_episode[episode] = self._home_of_prompt[request.ids] = home
        self._budget_at[home] += request.budget
        return home

    def _tell(self) -> None:
        """Note how fast servers were, what failed and what is lost."""
        news = self.fleet.news
        self._note_rates()
        if self._last:
            num = sum(self._num_failed.values())
            news.append(f"{num} attempts at a row failed, and were made again elsewhere or later. {self._faults()}")
        if lost := self._num_lost():
            news.append(f"{lost} of {len(self.requests)} rows are lost and count as unscorable")

    async def _play(self, row: int, home: FleetMember) -> None:
        tried: list[FleetMember] = []
        while len(tried) < ATTEMPTS:
            if tried:
                pause_s = math.ldexp(FIRST_PAUSE_S, len(tried) - 1)
                await asyncio.sleep(pause_s * (1 + 0.5 * self.jitter.random()))
            request, members = self._fitted(row)
            if request.budget < 1:
                self._played[row] = Generation.lost()
                return
            # one that has not failed, that did not fail this row, its own, the least busy
            member = min(members, key=lambda m: (not m.is_trusted, tried.count(m), m is not home, m.load))
            self._load(member, 1)
            try:
                async with member.gate:
                    if not member.is_trusted and any(other.is_trusted for other in members):
                        continue  # it failed while this row waited for it, and another has not
                    if not member.is_trusted:
                        await self.fleet.recall(member)
                    if member.room(request) < request.budget:
                        continue  # it came back with a shorter context
                    begun = _now()
                    played = member.play(request, self.sampling, self.stop_ids, self.weights)
                    self._played[row], self._by[row] = await played, member
                    self._row_s[row] = _now() - begun
                    return
            except ServerFault as fault:
                tried.append(member)
                member.is_trusted = False
                self._num_failed[member] += 1
                self._last[member] = str(fault)
            finally:
                self._load(member, -1)
        self._played[row] = Generation.lost()
        self._num_given_up += 1  # at most one row of an episode, which it ends
        num, what = (self.num_episodes, "episodes") if self.num_episodes else (len(self.requests), "rows")
        if self._num_given_up > MOST_LOST * num:
            raise PolicyError(
                f"{self._num_given_up} of {num} {what} are lost, each after {ATTEMPTS} attempts at a row. "
                f"{self._faults()}. Mend or leave out what fails, then resume"
            )

    def _fitted(self, row: int) -> tuple[Request, list[FleetMember]]:
        """Give a row, cut to what the roomiest servers take, and these.

        It fits what servers took when it was planned; since then some may have come, or begun anew, that take less.
        """
        request = self.requests[row]
        fitted = replace(request, budget=max(member.room(request) for member in self.members))
        return fitted, [member for member in self.members if member.room(request) == fitted.budget]

    async def _with_other_weights(self) -> list[int]:
        """Ask every server that answered whether it still holds the weights; list the rows of those that do not."""
        doubted: list[int] = []
        for member in dict.fromkeys(self._by.values()):
            try:
                held = await member.server.label()
            except ServerFault:  # it has ended since, and held them while it answered
                continue
            if held != self.weights.label:
                member.is_trusted = False
                doubted += [row for row, by in self._by.items() if by is member]
        for row in doubted:
            del self._by[row], self._played[row]
        return sorted(doubted)

    def _load(self, member: FleetMember, num: int) -> None:
        """Count the rows of a server, and the time for which it has some."""
        if member.load == 0:
            self._busy_since[member] = _now()
        member.load += num
        if member.load == 0:
            self._busy_s[member] += _now() - self._busy_since[member]

    def _note_rates(self) -> None:
        """Let every server that did not fail know how fast it wrote its rows."""
        rows_of: dict[FleetMember, list[int]] = defaultdict(list)
        for row, member in self._by.items():
            rows_of[member].append(row)
        for member, rows in rows_of.items():
            telling = [row for row in rows if len(self._played[row].ids) >= FEWEST_TOKENS]
            if telling and member not in self._num_failed:
                num_tokens = sum(len(self._played[row].ids) for row in telling)
                num_rows = sum(self._row_s[row] for row in rows) / self._busy_s[member]
                member.timeouts.saw(sum(self._row_s[row] for row in telling) / num_tokens, num_rows)

    def _num_lost(self) -> int:
        return sum(generation.finish == "lost" for generation in self._played.values())

    def _faults(self) -> str:
        return "; ".join(f"{member.url}: {fault}" for member, fault in self._last.items())


class ServerRows(RowStream):
    """The rows of a batch that grows, as the player's thread sees them."""

    def __init__(self, loop: EventLoop, batch: RequestBatch, note: Callable[[frozenset[int]], None]) -> None:
        """`note` hears which episodes are to be played anew; it may raise."""
        self._loop, self._batch, self._note = loop, batch, note
        self._futures: list[Future[Generation]] = []

    def expect(self, num_episodes: int) -> None:
        """Judge what is lost by so many episodes."""
        self._batch.num_episodes = num_episodes

    def submit(self, request: Request, episode: int) -> Future[Generation]:
        """Ask for a row."""
        self._futures.append(self._loop.submit(self._batch.play_next(request, episode)))
        return self._futures[-1]

    def finish(self) -> frozenset[int]:
        """Ask all servers whether they still hold the weights."""
        doubted = self._loop.run(self._batch.end())
        self._note(doubted)
        return doubted

    def abandon(self) -> None:
        """Cancel what is under way."""
        for future in self._futures:
            future.cancel()


def _now() -> float:
    """Tell the time as the event loop has it."""
    return asyncio.get_running_loop().time()


def spread(requests: Sequence[Request], members: Sequence[FleetMember]) -> dict[int, FleetMember]:
    """Give every row a server: rows of one prompt the same, for its prefix cache, and each server as many tokens."""
    rows_of: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for row, request in enumerate(requests):
        rows_of[request.ids].append(row)
    work = {prompt: sum(requests[row].budget for row in rows) for prompt, rows in rows_of.items()}
    tokens = dict.fromkeys(range(len(members)), 0)
    homes: dict[int, FleetMember] = {}
    # most to write first: so the shares come out even
    for prompt in sorted(rows_of, key=lambda prompt: -work[prompt]):
        least = min(tokens, key=lambda number: tokens[number])
        tokens[least] += work[prompt]
        homes.update(dict.fromkeys(rows_of[prompt], members[least]))
    return {row: homes[row] for row in range(len(requests))}
