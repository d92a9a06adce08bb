"""One batch of rows on a fleet: spread, played, and played again where a server fails.

Any server that holds the weights answers a request equally well, so a row is simply asked for again. Each row has one
place in the result, which is filled once: whatever fails, no row is doubled and none is missing.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from policies.errors import PolicyError
from policies.samplers.contracts import Generation, Request, Sampling
from policies.samplers.serving.client import ServerFault
from policies.samplers.serving.fleet import Fleet, FleetMember, Weights

ATTEMPTS = 3
FIRST_PAUSE_S = 0.5  # doubled before each further attempt, and up to half as long again
MOST_LOST = 0.1  # of a batch


@dataclass(frozen=True)
class RequestJob:
    """What is to be played, and as what."""

    requests: Sequence[Request]
    sampling: Sampling
    stop_ids: Sequence[int]
    weights: Weights


class RequestBatch:
    """Plays one batch. Used once."""

    def __init__(
        self, fleet: Fleet, members: Sequence[FleetMember], job: RequestJob, jitter: random.Random
    ) -> None:
        self._fleet, self._members, self._job, self._jitter = fleet, members, job, jitter
        self._played: dict[int, Generation] = {}  # by the row's place among the requests
        self._by: dict[int, FleetMember] = {}
        self._num_failed: dict[FleetMember, int] = defaultdict(int)
        self._last: dict[FleetMember, str] = {}

    async def run(self) -> list[Generation]:
        """Play every row, in the order of the requests.

        Raises:
            PolicyError: a request is one that no server would take, or more than a tenth of the rows are lost.
        """
        requests, news = self._job.requests, self._fleet.news
        homes = spread(requests, self._members)
        rows, rounds, began = list(homes), 0, time.monotonic()
        while rows:
            try:
                async with asyncio.TaskGroup() as tasks:
                    for row in rows:
                        tasks.create_task(self._play(row, homes[row]))
            except* PolicyError as errors:  # the first that no other server would mend ends all of them
                raise errors.exceptions[0] from None
            self._note_rates(time.monotonic() - began)
            rows, rounds = await self._with_other_weights(), rounds + 1
            if rows and rounds == ATTEMPTS:
                raise PolicyError(
                    "something else gives the servers other weights while they play for this run: servers belong to "
                    "one run at a time"
                )
        if self._last:
            num = sum(self._num_failed.values())
            news.append(
                f"{num} attempts at a row failed, and were made again elsewhere or later. {self._faults()}"
            )
        if lost := self._num_lost():
            news.append(f"{lost} of {len(requests)} rows are lost and count as unscorable")
        return [self._played[row] for row in range(len(requests))]

    async def _play(self, row: int, home: FleetMember) -> None:
        tried: list[FleetMember] = []
        while len(tried) < ATTEMPTS:
            if tried:
                pause_s = math.ldexp(FIRST_PAUSE_S, len(tried) - 1)
                await asyncio.sleep(pause_s * (1 + 0.5 * self._jitter.random()))
            # one that has not failed, that did not fail this row, its own, the least busy
            member = min(
                self._members, key=lambda m: (not m.is_trusted, tried.count(m), m is not home, m.load)
            )
            member.load += 1
            try:
                async with member.gate:
                    if not member.is_trusted and any(other.is_trusted for other in self._members):
                        continue  # it failed while this row waited for it, and another has not
                    if not member.is_trusted:
                        await self._fleet.recall(member)
                    job = self._job
                    played = member.play(job.requests[row], job.sampling, job.stop_ids, job.weights.version)
                    self._played[row], self._by[row] = await played, member
                    return
            except ServerFault as fault:
                tried.append(member)
                member.is_trusted = False
                self._num_failed[member] += 1
                self._last[member] = str(fault)
            finally:
                member.load -= 1
        self._played[row] = Generation.lost()
        num_lost, num = self._num_lost(), len(self._job.requests)
        if num_lost > MOST_LOST * num:
            raise PolicyError(
                f"{num_lost} of {num} rows are lost, each after {ATTEMPTS} attempts. {self._faults()}. Mend or leave "
                "out what fails, then resume"
            )

    async def _with_other_weights(self) -> list[int]:
        """Ask every server that answered whether it still holds the weights; list the rows of those that do not.

        One that has ended since held them while it answered, because a server that starts again takes longer than
        the rows that it had in flight take to fail.
        """
        doubted: list[int] = []
        for member in dict.fromkeys(self._by.values()):
            try:
                held = await member.server.label()
            except ServerFault:
                continue
            if held != self._job.weights.label:
                member.is_trusted = False
                doubted += [row for row, by in self._by.items() if by is member]
        for row in doubted:
            del self._by[row], self._played[row]
        return sorted(doubted)

    def _note_rates(self, seconds: float) -> None:
        """Let every server that did not fail know how fast it was."""
        tokens: dict[FleetMember, int] = defaultdict(int)
        for row, member in self._by.items():
            tokens[member] += len(self._played[row].ids)
        for member, num in tokens.items():
            if member not in self._num_failed:
                member.timeouts.saw(num, seconds)

    def _num_lost(self) -> int:
        return sum(generation.finish == "lost" for generation in self._played.values())

    def _faults(self) -> str:
        return "; ".join(f"{member.url}: {fault}" for member, fault in self._last.items())


def spread(requests: Sequence[Request], members: Sequence[FleetMember]) -> dict[int, FleetMember]:
    """Give every row a server: rows of one prompt the same, for its prefix cache, and each server as many tokens.

    Prompts with most to write first, each to the server that has least, so that the shares come out even.
    """
    rows_of: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for row, request in enumerate(requests):
        rows_of[request.ids].append(row)
    work = {prompt: sum(requests[row].budget for row in rows) for prompt, rows in rows_of.items()}
    tokens = dict.fromkeys(range(len(members)), 0)
    homes: dict[int, FleetMember] = {}
    for prompt in sorted(rows_of, key=lambda prompt: -work[prompt]):
        least = min(tokens, key=lambda number: tokens[number])
        tokens[least] += work[prompt]
        homes.update(dict.fromkeys(rows_of[prompt], members[least]))
    return {row: homes[row] for row in range(len(requests))}
