"""A pool of worker processes in which a job that runs over its time is killed, with all that it started.

A worker works at one job after the other, and what it does wrong is that job's doing. A worker that ended is replaced
when there is something to do.
"""

from __future__ import annotations

import math
import multiprocessing.spawn
import os
import pickle
import re
import select
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import Field

from environments.contracts import Environment, EnvironmentFault, RemoteEnvironment, Score, Turn
from environments.display import brief
from environments.options import Options
from environments.scoring import worker
from environments.scoring.jobs import LONGEST_REASON, READY, ScoringJob, play, read_turn, unscorable
from environments.scoring.process import (
    BrokenProcess,
    ProcessOutput,
    ScoringProcess,
    end,
    passed_variables,
    with_hint,
)
from environments.scoring.remote import RemotePlays
from environments.sources import EnvironmentSource

LEAST_SHARE = 1 / 10  # of the limit that a score gets, however many have timed out before it
PAUSE_S = 0.5  # before turns whose cause may pass are taken once more
START_S = 120.0  # for a worker: interpreter, imports, building the environments
FAILED_STARTS = 3  # in a row, after which no more are tried
LONGEST_SAID = 2 * LONGEST_REASON  # characters of a reason that a worker has cut, and a hint
MOST_WORKERS = 8  # by default: one process scores some thousand answers a second
LAST_WORDS_S = 0.1  # for what a process printed to arrive once it has ended

# What a server does that is busy or begins anew, by the names of exceptions of the common clients.
_MAY_PASS = re.compile(r"raised (\w*Connect(ion)?\w*Error|\w*Timeout(Error)?|BrokenPipeError|URLError): ")

Found = Iterator[tuple[int, Turn]]  # number of the job, its turn


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class ScoringOptions(Options):
    """How answers are scored: in the trainer where that can neither hang nor harm, else in processes with limits."""

    isolation: Literal["auto", "process", "none"] = "auto"
    """`auto`: processes, except for environments whose scoring can neither hang nor run foreign code."""
    workers: int | None = Field(default=None, ge=1, le=1024)
    """Processes; null: one less than there are cores, at least 1, at most 8."""
    timeout_s: float = Field(default=2.0, gt=0, le=86_400)
    """Seconds that one score may take in a process."""
    memory_gib: float = Field(default=2.0, gt=0, le=65_536)
    """GiB that one score may allocate in a process, beyond what its environments hold."""
    env: tuple[Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")], ...] = ()
    """Environment variables that the processes see beside the usual ones, such as the key of a judge: by default
    they see none that may hold secrets."""


class KillablePool:
    """Worker processes, started by the first job and replaced when needed; each builds its own environments."""

    def __init__(self, sources: Sequence[EnvironmentSource], num_workers: int, options: ScoringOptions) -> None:
        self._sources, self._num_workers, self._options = tuple(sources), num_workers, options
        self._lock = threading.Lock()  # a batch may be played beside an update
        self._waiting: deque[int] = deque()  # numbers of jobs
        self._timed_out = Counter[str]()  # by environment; half as many count in the next batch
        self._processes: list[ScoringProcess] = []
        self._ending: list[ScoringProcess] = []  # told to end
        self._num_failed = 0  # starts, since the last that succeeded
        self._has_started = False
        self._variables: Mapping[str, str] = {}  # that workers see
        self.output: ProcessOutput | None = None  # what the workers print; None before they start

    def turns(self, jobs: Sequence[ScoringJob]) -> list[Turn]:
        """Play all jobs; the turns in their order, unscorable where a job was killed or killed its worker.

        Raises EnvironmentFault if the workers do not start, or an environment cannot be built in them.
        """
        if not jobs:
            return []
        found: dict[int, Turn] = {}
        with self._lock:
            try:
                self._waiting = deque(range(len(jobs)))
                self._timed_out = Counter({name: num // 2 for name, num in self._timed_out.items() if num > 1})
                while len(found) < len(jobs):
                    self._ending = [process for process in self._ending if process.leader.poll() is None]
                    while len(self._processes) < min(self._num_workers, len(jobs) - len(found)):
                        self._processes.append(self._start())
                    self._hand_out(jobs)
                    found.update(self._listen(jobs))
            except BaseException:
                self.close()  # jobs are under way that nobody will ask for
                raise
        return [found[number] for number in range(len(jobs))]

    def close(self) -> None:
        """Kill the workers and all they started."""
        for process in list(self._processes):
            self._let_go(process)
        for process in self._ending:
            end(process.leader)
        self._ending.clear()
        if self.output is not None:
            self.output.close()
            self.output = None

    def pids(self) -> list[int]:
        """Give the process ids of the leaders of the workers' sessions."""
        return [process.leader.pid for process in self._processes]

    def _start(self) -> ScoringProcess:
        if worker.is_starting:
            raise RuntimeError("a scoring process that is starting was to start others")
        if missing := [name for name in self._options.env if name not in os.environ]:
            raise EnvironmentFault(f"`scoring: {{env: ...}}` names {missing[0]}, which is not set: set it")
        self.output = self.output or ProcessOutput()
        main = multiprocessing.spawn.get_preparation_data("scoring")
        del main["authkey"]
        setup = worker.Setup(main, pickle.dumps(self._sources), self._options.memory_gib)
        self._variables = passed_variables(self._options.env)
        return ScoringProcess(pickle.dumps(setup), self._variables, self.output.writer, START_S)

    def _hand_out(self, jobs: Sequence[ScoringJob]) -> None:
        while self._waiting and (free := [process for process in self._processes if process.has_room]):
            for process in free[: len(self._waiting)]:
                number = self._waiting.popleft()
                # The earlier turns of an episode are taken again, each within its own limit.
                share = self._share_of_limit(jobs[number].task.environment)
                limit_s = self._options.timeout_s * len(jobs[number].completions) * share
                try:
                    process.give(number, pickle.dumps(jobs[number]), limit_s)
                except BrokenProcess:
                    self._waiting.appendleft(number)
                    self._let_go(process)

    def _share_of_limit(self, environment: str) -> float:
        """Say how much of its limit a score gets: the n-th that times out costs an n-th, a tenth at the least.

        So what hangs costs a batch a few limits and not one a row; what is sound takes far less than a tenth.
        """
        return max(LEAST_SHARE, 1 / (1 + self._timed_out[environment]))

    def _listen(self, jobs: Sequence[ScoringJob]) -> Found:
        poller, at = select.poll(), {process.fileno(): process for process in self._processes}
        for descriptor, process in at.items():
            poller.register(descriptor, select.POLLIN | (select.POLLOUT if process.unsent else 0))
        next_deadline = min((process.deadline for process in self._processes), default=0.0)
        left_s = max(0.0, next_deadline - time.monotonic())
        for descriptor, _ in poller.poll(None if math.isinf(left_s) else math.ceil(1000 * left_s)):
            yield from self._hear(at[descriptor])
        now = time.monotonic()
        for process in [one for one in self._processes if one.deadline <= now]:
            for number, turn in self._lose(process, "timed out"):
                self._timed_out[jobs[number].task.environment] += 1
                yield number, turn

    def _hear(self, process: ScoringProcess) -> Found:
        try:
            process.push()
            for answer in process.answers():
                if process.is_ready:
                    try:
                        turn = read_turn(answer)
                    except EnvironmentFault as fault:
                        raise EnvironmentFault(with_hint(str(fault), self._variables)) from None
                    if turn.score is not None and turn.score.reason is not None:
                        reason = with_hint(turn.score.reason, self._variables)
                        turn = Turn(score=Score.unscorable(brief(reason, LONGEST_SAID)), done=True)
                    yield process.finish(), turn
                elif answer == READY:
                    process.is_ready, process.deadline = True, math.inf
                    self._has_started, self._num_failed = True, 0
                else:
                    raise BrokenProcess("it begins with something else")
        except (BrokenProcess, ValueError, TypeError, KeyError):  # no answer of ours: a worker that lies
            yield from self._lose(process, "crashed")
        if process.is_worn and not process.jobs:
            self._let_go(process)

    def _lose(self, process: ScoringProcess, reason: str) -> Found:
        """End a worker; the score it worked at is lost with it, and its other jobs wait again."""
        self._let_go(process)
        if not process.is_ready:
            self._num_failed += 1
            if not self._has_started or self._num_failed >= FAILED_STARTS:
                end(process.leader)
                time.sleep(LAST_WORDS_S)
                words = self.output.last_line() if self.output is not None else ""
                raise EnvironmentFault(
                    f"scoring processes do not start: they end at once, or take longer than {START_S:.0f} s"
                    f"{f' (the last says: {words})' if words else ''}."
                    " If a script of yours starts the run, let it do so under `if __name__ == '__main__':`, as each"
                    " process imports the script; `scoring: {isolation: none}` scores without them"
                )
        elif process.jobs:
            (number, _), *others = process.jobs
            self._waiting.extendleft(other for other, _ in reversed(others))
            yield number, unscorable(reason)

    def _let_go(self, process: ScoringProcess) -> None:
        """Tell a worker to end, without waiting for it."""
        if process in self._processes:
            self._processes.remove(process)
            process.tell_to_end()
            self._ending.append(process)


class Scorer:
    """Scores in the trainer where that cannot hang, else in killable processes, which start with their first job.

    `sources` are recipes of the environments, for the processes; `environments` the same as the trainer has them.
    """

    def __init__(
        self,
        sources: Sequence[EnvironmentSource],
        environments: Mapping[str, Environment],
        options: ScoringOptions | None = None,
    ) -> None:
        self._environments = environments
        self._options = options or ScoringOptions()
        num_workers = self._options.workers or min(max(1, available_cores() - 1), MOST_WORKERS)
        isolated = [source for source in sources if self.isolates(source.name)]
        self._pool = KillablePool(isolated, num_workers, self._options)
        self._remote = RemotePlays(environments)
        self._has_reported = False

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

        What failed for a cause that may pass is taken once more, all of it together and after a pause: where a
        connection was not to be had, and the only crash of an environment, which may have been the machine's doing.
        """
        turns = self._turns(jobs)
        if again := _may_fare_better(jobs, turns):
            time.sleep(PAUSE_S)
            for i, turn in zip(again, self._turns([jobs[i] for i in again]), strict=True):
                turns[i] = turn
        return turns

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
                turns[i] = remote[i].result()
            elif i not in turns:
                turns[i] = play(self._environments[job.task.environment], job)
        return [turns[i] for i in range(len(jobs))]

    def take_news(self) -> list[str]:
        """Give what people should know and have not been told: that the processes print, which nobody reads."""
        output = self._pool.output
        if self._has_reported or output is None or not output.num_bytes:
            return []
        self._has_reported = True
        num, line = output.num_bytes, output.last_line()
        return [f"scorers print, which is not kept: {num:,} bytes so far, the last line: {line}"]

    def close(self) -> None:
        """End the processes and whatever they started, and the episodes in servers; `turns` would start them anew."""
        self._pool.close()
        self._remote.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _may_fare_better(jobs: Sequence[ScoringJob], turns: Sequence[Turn]) -> list[int]:
    """Find the turns that are worth another try, by why they have no score."""
    reasons = {i: turn.score.reason for i, turn in enumerate(turns) if turn.score is not None and turn.score.reason}
    crashes = Counter(jobs[i].task.environment for i, reason in reasons.items() if reason == "crashed")
    return [
        i
        for i, reason in reasons.items()
        if _MAY_PASS.match(reason) or (reason == "crashed" and crashes[jobs[i].task.environment] == 1)
    ]
