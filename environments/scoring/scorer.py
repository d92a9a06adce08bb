"""Scores: in the trainer where that cannot hang, in killable processes, or in the servers that episodes live in."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Self

from environments.contracts import Environment, EnvironmentFault, RemoteEnvironment, Turn
from environments.display import Tell
from environments.futures import Waiting, result_of
from environments.scoring.jobs import ScoringJob, play
from environments.scoring.kept_episodes import KeptEpisodes
from environments.scoring.pool import KillablePool, ScoringOptions, available_cores
from environments.scoring.remote import RemotePlays
from environments.scoring.retries import PAUSE_S, Retries
from environments.sources import EnvironmentSource

MOST_WORKERS = 8  # by default: one process scores some thousand answers a second
LONG_S = 10.0  # of one job in the trainer, after which people are told


class Scorer:
    """Scores in the trainer where that cannot hang, else in killable processes, which start with their first job.

    `sources` are recipes of the environments, for the processes; `environments` the same as the trainer has them.
    `tell` hears which servers keep it waiting, in the thread that made this.
    """

    def __init__(
        self,
        sources: Sequence[EnvironmentSource],
        environments: Mapping[str, Environment],
        options: ScoringOptions | None = None,
        tell: Tell = lambda text: None,
    ) -> None:
        self._environments = environments
        self._options = options or ScoringOptions()
        num_workers = self._options.workers or min(max(1, available_cores() - 1), MOST_WORKERS)
        isolated = [source for source in sources if self.isolates(source.name)]
        self._pool = KillablePool(isolated, num_workers, self._options)
        self._remote = RemotePlays(environments)
        self._kept = KeptEpisodes()  # of those that are played in the trainer
        self._has_reported = False
        self._long: dict[str, float] = {}  # environments of which a job took long in the trainer: seconds
        self._told_of = set[str]()  # of these environments
        self._retries = Retries()
        self._pauses: dict[threading.Timer, Future[Turn]] = {}  # before another try, and whom it is for
        self._is_closing, self._pauses_lock = False, threading.Lock()  # timers and first tries end in other threads
        self.tell_waiting = Waiting(environments.values(), tell)  # for who waits for turns
        for environment in environments.values():
            if isinstance(environment, RemoteEnvironment):
                environment.meanwhile = self.tell_waiting

    def isolates(self, environment: str) -> bool:
        """Say whether an environment, given by name, is scored in processes; what lives in a server is not."""
        if isinstance(self._environments[environment], RemoteEnvironment):
            return False
        if self._options.isolation == "auto":
            return not self._environments[environment].scores_in_process
        return self._options.isolation == "process"

    def turns(self, jobs: Sequence[ScoringJob]) -> list[Turn]:
        """Take the next turn of each episode; the turns in the order of the jobs.

        A score that could not be found is unscorable, never 0, and ends its episode. Its reason is "timed out",
        "crashed", "out of memory", "bad value: <what>", "no score", "no reply", "raised <exception>: <message>", or the
        environment's own, on one line of some 500 characters. Keep `timeout_s` some 20 times above what a score takes;
        a later turn has the time of all turns up to it. Raises EnvironmentFault if an environment breaks its contract.

        The jobs are a batch; what `Retries` finds worth it is taken once more, all of it together and after a pause.
        """
        self._retries.next_batch()
        turns = self._turns(jobs)
        if again := [i for i, job in enumerate(jobs) if self._retries.is_worth(job, turns[i])]:
            time.sleep(PAUSE_S)
            for i, turn in zip(again, self._turns([jobs[i] for i in again]), strict=True):
                turns[i] = turn
        return turns

    def next_batch(self) -> None:
        """Let jobs that are submitted from now on be of another batch."""
        self._retries.next_batch()
        self._pool.next_batch()
        self._kept.clear()

    def submit(self, job: ScoringJob) -> Future[Turn]:
        """Take the next turn of one episode beside others, and once more as `turns` does.

        What is played in the trainer is over when this returns, tries included: others beside it would draw from the
        same global generators. What `turns` raises is the future's to raise.
        """
        settled = Future[Turn]()
        environment = self._environments[job.task.environment]
        if isinstance(environment, RemoteEnvironment):
            take: Callable[[ScoringJob], Future[Turn]] = self._remote.submit
        elif self.isolates(environment.name):
            take = self._pool.submit
        else:
            try:
                turn = self._play_here(job)
                if self._retries.is_worth(job, turn):
                    time.sleep(self._retries.pause_s())
                    turn = self._play_here(job)
                settled.set_result(turn)
            except EnvironmentFault as fault:
                settled.set_exception(fault)
            return settled

        def settle(found: Future[Turn], is_last: bool = False) -> None:
            if found.cancelled():
                settled.cancel()
            elif (error := found.exception()) is not None:
                settled.set_exception(error)
            elif is_last or not self._retries.is_worth(job, found.result()):
                settled.set_result(found.result())
            else:
                self._after_pause(settled, partial(take, job), partial(settle, is_last=True))

        take(job).add_done_callback(settle)
        return settled

    def end(self, jobs: Sequence[ScoringJob]) -> None:
        """Let go of the episodes of these jobs, the last of each, which are played no further though they go on.

        Returns at once.
        """
        remote, isolated = list[ScoringJob](), list[tuple[str, str]]()
        for job in jobs:
            name = job.task.environment
            if isinstance(self._environments[name], RemoteEnvironment):
                remote.append(job)
            elif self.isolates(name):
                isolated.append((name, job.episode))
            else:
                self._kept.forget(name, job.episode)
        self._pool.end(isolated)
        if remote:
            self._remote.end(remote)

    def _after_pause(
        self, settled: Future[Turn], submit: Callable[[], Future[Turn]], settle: Callable[[Future[Turn]], None]
    ) -> None:
        def go_on() -> None:
            with self._pauses_lock:  # held while it is submitted, so that what closes afterwards ends that too
                if self._pauses.pop(pause, None) is None:
                    return  # closed meanwhile
                again = submit()
            again.add_done_callback(settle)

        pause = threading.Timer(PAUSE_S, go_on)
        pause.daemon = True
        with self._pauses_lock:
            if not self._is_closing:
                self._pauses[pause] = settled
                pause.start()
                return
        settled.cancel()

    def _turns(self, jobs: Sequence[ScoringJob]) -> list[Turn]:
        remote = {
            i: self._remote.submit(job)
            for i, job in enumerate(jobs)
            if isinstance(self._environments[job.task.environment], RemoteEnvironment)
        }
        isolated = [i for i, job in enumerate(jobs) if self.isolates(job.task.environment)]
        turns = dict(zip(isolated, self._pool.turns([jobs[i] for i in isolated]), strict=True))
        for i, job in enumerate(jobs):
            if i in remote:
                turns[i] = result_of(remote[i], self.tell_waiting)
            elif i not in turns:
                turns[i] = self._play_here(job)
        return [turns[i] for i in range(len(jobs))]

    def _play_here(self, job: ScoringJob) -> Turn:
        begun = time.monotonic()
        turn = play(self._environments[job.task.environment], job, self._kept)
        if (took_s := time.monotonic() - begun) > LONG_S:
            self._long.setdefault(job.task.environment, took_s)
        return turn

    def take_news(self) -> list[str]:
        """Give what people should know and have not been told, once.

        That the processes print, which nobody reads; which environments take long where nothing cuts them off; and what
        those in servers tell of these.
        """
        news = [
            f"a reply of {name} took {took_s:.0f} s in the trainer, where nothing limits it and all else waits:"
            " `scoring: {isolation: process}` scores it in a process that is cut off"
            for name, took_s in self._long.items()
            if name not in self._told_of
        ]
        self._told_of |= self._long.keys()
        for name, environment in self._environments.items():
            if isinstance(environment, RemoteEnvironment):
                news += [f"{name}: {text}" for text in environment.take_news()]
        output = self._pool.output
        if not self._has_reported and output is not None and output.num_bytes:
            self._has_reported = True
            num, line = output.num_bytes, output.last_line()
            news.append(f"scorers print, which is not kept: {num:,} bytes so far, the last line: {line}")
        return news

    def close(self) -> None:
        """End the processes and whatever they started, and episodes in servers; what is under way is cancelled.

        Another job would start them anew.
        """
        with self._pauses_lock:
            pauses, self._pauses, self._is_closing = self._pauses, {}, True
        for pause, settled in pauses.items():
            pause.cancel()
            settled.cancel()
        self._pool.close()
        self._remote.close()
        self._kept.clear()
        self._is_closing = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
