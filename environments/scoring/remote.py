"""Episodes that live in servers, played in the trainer: many side by side on one event loop, in a thread of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field

from environments.contracts import Environment, EnvironmentFault, RemoteEnvironment, RemoteFault, Turn
from environments.remote.event_loop import EventLoop
from environments.remote.replay import LEAVE_S, RemotePlay
from environments.scoring.jobs import ScoringJob, checked, raised, unscorable

SWEEP_S = 5.0  # between two looks for episodes that nobody asks for
CLOSE_S = 5.0  # for all farewells together


@dataclass
class _Live:
    environment: str
    play: RemotePlay
    lease_s: float
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)  # one turn at a time
    asked_at: float = field(default_factory=time.monotonic)


class RemotePlays:
    """Takes turns of remote environments, given by name.

    An episode is known by its environment and the job's `episode`. One that lives goes on with the last completion; one
    that is not known, or that its server has lost, is begun and hears the earlier completions again. It is closed when
    it is done, or unscorable, when `end` says that it is over, or was not asked for as long as its environment's lease.
    What was closed by its lease is begun anew when it is asked again after all, and has to answer as it did. A job
    without a name of its episode is replayed.
    """

    def __init__(self, environments: Mapping[str, Environment]) -> None:
        self._environments = environments
        self._loop: EventLoop | None = None  # made by the first job
        self._live: dict[tuple[str, str], _Live] = {}
        self._turns: set[asyncio.Task[Turn]] = set()  # under way
        self._farewells: dict[asyncio.Task[None], str] = {}  # with their environments

    def submit(self, job: ScoringJob) -> Future[Turn]:
        """Begin to take a turn; called from any thread.

        The future's turn is checked, and unscorable where the server gave none. It raises EnvironmentFault where no
        further task would fare better.
        """
        if self._loop is None:
            self._loop = EventLoop("remote episodes")
            self._loop.submit(self._sweep())
        return self._loop.submit(self._begin(job))

    def end(self, jobs: Sequence[ScoringJob]) -> None:
        """Close the episodes of these jobs, beside everything else; those that are not known are none of ours."""
        if self._loop is not None:
            self._loop.submit(self._end([(job.task.environment, job.episode) for job in jobs]))

    def close(self) -> None:
        """Cancel the turns that are under way, close all episodes, and end the thread; `submit` would begin anew."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        loop.run(self._close_all())
        loop.close()

    async def _begin(self, job: ScoringJob) -> Turn:
        """Take a turn in a task of its own, to be cancelled before its episode is closed."""
        turn = asyncio.get_running_loop().create_task(self._turn(job))
        self._turns.add(turn)
        turn.add_done_callback(self._turns.discard)
        return await turn

    async def _turn(self, job: ScoringJob) -> Turn:
        environment = self._environments[job.task.environment]
        if not isinstance(environment, RemoteEnvironment):
            raise EnvironmentFault(f"{environment.name}: only a RemoteEnvironment is played on an event loop")
        name = (job.task.environment, job.episode)
        live = self._live.get(name) if job.episode else None
        try:
            if live is None:
                live = _Live(job.task.environment, RemotePlay(environment, job.task), environment.lease_s)
                if job.episode:
                    self._live[name] = live
            async with live.lock:
                if not live.play.is_open and environment.episodes_at_once is not None:
                    await self._let_leave(job.task.environment)
                turn = checked(await live.play.turn(job.completions))
        except RemoteFault as fault:
            turn = unscorable(str(fault))
        except EnvironmentFault:
            raise
        except asyncio.CancelledError:
            if live is not None and not job.episode:  # the others are known, and closed when they are over
                self._part_with(live)
            raise
        except GeneratorExit:  # the loop is gone
            raise
        except BaseException as error:  # a remote environment of the user's own may raise anything, SystemExit too
            turn = raised(error)
        if live is not None:
            live.asked_at = time.monotonic()
            if turn.done or not job.episode:
                self._live.pop(name, None)
                self._part_with(live)
        return turn

    async def _end(self, names: Sequence[tuple[str, str]]) -> None:
        for name in names:
            if (live := self._live.pop(name, None)) is not None:
                self._part_with(live)

    def _part_with(self, live: _Live) -> None:
        """Close an episode beside everything else."""
        farewell = asyncio.get_running_loop().create_task(_close(live))
        self._farewells[farewell] = live.environment
        farewell.add_done_callback(self._farewells.pop)

    async def _let_leave(self, environment: str) -> None:
        """Wait a moment for episodes that are being closed, as there are only so many places.

        One that begins would find theirs taken, and be refused for longer than that.
        """
        if leaving := [farewell for farewell, name in self._farewells.items() if name == environment]:
            await asyncio.wait(leaving, timeout=LEAVE_S)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self.close_idle()

    def close_idle(self) -> None:
        """Close what was not asked for during its lease, and keep what it said; called on the event loop."""
        now = time.monotonic()
        for name, live in list(self._live.items()):
            if live.play.is_open and not live.lock.locked() and now - live.asked_at > live.lease_s:
                self._live[name] = _Live(live.environment, live.play.anew(), live.lease_s)
                self._part_with(live)

    async def _close_all(self) -> None:
        for turn in self._turns:
            turn.cancel()
        if self._turns:
            await asyncio.wait(self._turns, timeout=CLOSE_S)
        for live in self._live.values():
            self._part_with(live)
        self._live.clear()
        if self._farewells:
            await asyncio.wait(self._farewells, timeout=CLOSE_S)
        for environment in self._environments.values():
            if isinstance(environment, RemoteEnvironment):
                await environment.close()


async def _close(live: _Live) -> None:
    with suppress(Exception, SystemExit):  # foreign; its lease ends what cannot be closed
        async with asyncio.timeout(live.lease_s):
            await live.play.close()
