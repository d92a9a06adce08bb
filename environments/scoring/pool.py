"""A pool of worker processes in which a job that runs over its time is killed, with all that it started.

A worker works at one job after the other, and what it does wrong is that job's doing. A worker that ended is replaced
when there is something to do. A thread hands out jobs and listens for as long as there are any: whoever submits one
may wait for something else meanwhile.

A job that is slow holds as little else as can be: what was sent behind it is given to another worker too, and the first
answer counts; where all workers are held, and their number is ours to choose, one more is started. That one is the
spare: environments whose replies are slow again and again leave it to the others.
"""

from __future__ import annotations

import math
import multiprocessing.spawn
import os
import pickle
import select
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from itertools import count
from typing import Annotated, Literal

from pydantic import Field

from environments.contracts import EnvironmentFault, Score, Turn
from environments.display import brief
from environments.options import Options
from environments.scoring import worker
from environments.scoring.job_queue import JobQueue
from environments.scoring.jobs import CRASHED, LONGEST_REASON, READY, EndedEpisodes, ScoringJob, read_turn, unscorable
from environments.scoring.kept_episodes import MOST_KEPT
from environments.scoring.process import (
    SLOW_S,
    BrokenProcess,
    ProcessOutput,
    ScoringProcess,
    end,
    passed_variables,
    with_hint,
)
from environments.sources import EnvironmentSource
from environments.user_code import raised

LEAST_SHARE = 1 / 10  # of the limit that a score gets, however many have timed out before it
START_S = 120.0  # for a worker: interpreter, imports, building the environments
FAILED_STARTS = 3  # in a row, after which no more are tried
SPARE = 1  # workers that may be started beyond the default number
OFTEN = 2  # slow replies of an environment in a row, after which it leaves the spare worker to others
LONGEST_SAID = 2 * LONGEST_REASON  # characters of a reason that a worker has cut, and a hint
NEXT_FEW = 32  # jobs among which a process is given those of episodes that it keeps; so many may pass one by
PIPE_BYTES = 65_536  # of a pipe that wakes, at most
GRACE_S = 2.0  # for idle workers to end by themselves, all together
LAST_WORDS_S = 0.1  # for what a process printed to arrive once it has ended

Found = Iterator[tuple[int, Turn]]  # number of the job, its turn


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class ScoringOptions(Options):
    """How answers are scored: in the trainer where that can neither hang nor harm, else in processes with limits."""

    isolation: Literal["auto", "process", "none"] = "auto"
    """`auto`: processes, except for environments whose scoring can neither hang nor run foreign code."""
    workers: int | None = Field(default=None, ge=1, le=1024)
    """Processes; null: one less than there are cores, from 1 to 8, and one more once slow replies hold all."""
    timeout_s: float = Field(default=2.0, gt=0, le=86_400)
    """Seconds that one score may take in a process."""
    memory_gib: float = Field(default=2.0, gt=0, le=65_536)
    """GiB that one score may allocate in a process, beyond what its environments hold, and episodes under way."""
    env: tuple[Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")], ...] = ()
    """Environment variables that the processes see beside the usual ones, such as the key of a judge: by default
    they see none that may hold secrets."""


def _pickled(job: ScoringJob) -> bytes:
    """Write a job for a process; raises EnvironmentFault where its task holds what cannot be sent."""
    try:
        return pickle.dumps(job)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # its data is foreign, and its answer may be worked out only now
        task = job.task
        raise EnvironmentFault(
            f"{task.environment}: task({task.category!r}, {task.index}) cannot be sent to a scoring process:"
            f" {raised(error)}; keep plain data in it, then run or resume"
        ) from error


class KillablePool:
    """Worker processes, started by the first job and replaced when needed.

    Each builds an environment of its own before the first job of it, so that one of a hundred costs no more than one.
    """

    def __init__(self, sources: Sequence[EnvironmentSource], num_workers: int, options: ScoringOptions) -> None:
        self._sources, self._num_workers, self._options = tuple(sources), num_workers, options
        self._lock = threading.Lock()  # of what follows: jobs come from any thread
        self._numbers = count()  # of jobs
        self._jobs: dict[int, ScoringJob] = {}  # without a turn
        self._futures: dict[int, Future[Turn]] = {}  # of these
        self._waiting = JobQueue()  # those that no process has, or that others may do as well
        self._thread: threading.Thread | None = None  # while there are jobs
        self._wake: tuple[int, int] = (-1, -1)  # a pipe that the thread listens at
        self._is_closing = False
        self._timed_out = Counter[str]()  # by environment; half as many count in the next batch
        self._slow = Counter[str]()  # replies in a row, by environment
        self._num_spare = SPARE if options.workers is None else 0
        self._processes: list[ScoringProcess] = []
        self._keepers: dict[tuple[str, str], ScoringProcess] = {}  # who took the last turn of an episode under way
        self._ended: list[tuple[str, str]] = []  # episodes that are played no further, of which processes are to hear
        self._ending: list[ScoringProcess] = []  # told to end
        self._num_failed = 0  # starts, since the last that succeeded
        self._has_started = False
        self._variables: Mapping[str, str] = {}  # that workers see
        self.output: ProcessOutput | None = None  # what the workers print; None before they start

    def turns(self, jobs: Sequence[ScoringJob]) -> list[Turn]:
        """Play all jobs; the turns in their order, unscorable where a job was killed or killed its worker.

        Raises EnvironmentFault if the workers do not start, or an environment cannot be built in them.
        """
        self.next_batch()
        try:
            return [future.result() for future in [self.submit(job) for job in jobs]]
        except BaseException:
            self.close()  # jobs are under way that nobody will ask for
            raise

    def submit(self, job: ScoringJob) -> Future[Turn]:
        """Play a job beside those under way; what `turns` raises is the future's to raise."""
        future = Future[Turn]()
        with self._lock:
            number = next(self._numbers)
            self._jobs[number], self._futures[number] = job, future
            self._waiting.add(job.task.environment, number)
            self._ensure_serving()
        return future

    def end(self, episodes: Sequence[tuple[str, str]]) -> None:
        """Have episodes, by environment and name, kept no longer; returns at once."""
        with self._lock:
            if episodes and self._processes:
                self._ended += episodes
                self._ensure_serving()

    def _ensure_serving(self) -> None:
        """Begin the thread, or wake it; the lock is held."""
        if self._thread is not None:
            self._wake_up()
            return
        self._wake = os.pipe()
        for end_of_pipe in self._wake:
            os.set_blocking(end_of_pipe, False)
        self._thread = threading.Thread(target=self._serve, name="scoring", daemon=True)
        self._thread.start()

    def next_batch(self) -> None:
        """Let half of what timed out be forgotten."""
        self._timed_out = Counter({name: num // 2 for name, num in self._timed_out.items() if num > 1})

    def close(self) -> None:
        """End the workers and all they started, those at work at once; what is under way is cancelled."""
        with self._lock:
            thread, self._is_closing = self._thread, True
            if thread is not None:
                self._wake_up()
        if thread is not None:
            thread.join()
        self._is_closing = False
        for process in list(self._processes):
            self._let_go(process, gently=process.is_ready and not process.jobs)
        until = time.monotonic() + GRACE_S
        for process in self._ending:
            with suppress(subprocess.TimeoutExpired):
                process.leader.wait(max(0.0, until - time.monotonic()))
        for process in self._ending:
            process.tell_to_end()
            end(process.leader)
        self._ending.clear()
        if self.output is not None:
            self.output.close()
            self.output = None

    def _wake_up(self) -> None:
        with suppress(BlockingIOError):  # the pipe is full: it will wake
            os.write(self._wake[1], b" ")

    def _serve(self) -> None:
        """Hand out jobs and hear of them until there are none; what goes wrong here is told by the jobs' futures."""
        try:
            while self._goes_on():
                self._pass_on_ended()
                if not self._futures:
                    continue
                self._ending = [process for process in self._ending if process.leader.poll() is None]
                while len(self._processes) < min(self._num_wanted(), len(self._futures)):
                    self._processes.append(self._start())
                self._hand_out()
                for number, turn in self._listen():
                    self._settle(number, turn)
        except BaseException as failed:
            for process in list(self._processes):
                self._let_go(process)
            with self._lock:
                lost = self._leave()
            for future in lost:
                future.set_exception(failed)

    def _goes_on(self) -> bool:
        """Whether there are jobs to do; if not, the thread is over, and another begins with the next job."""
        with self._lock:
            if (self._futures or self._ended) and not self._is_closing:
                return True
            given_up = self._leave()
        for future in given_up:
            future.cancel()
        return False

    def _leave(self) -> list[Future[Turn]]:
        """Forget all jobs, as the thread that ends; the lock is held."""
        left = list(self._futures.values())
        self._futures.clear()
        self._jobs.clear()
        self._waiting.clear()
        self._ended.clear()
        for end_of_pipe in self._wake:
            os.close(end_of_pipe)
        self._thread = None
        return left

    def _pass_on_ended(self) -> None:
        """Tell all processes which episodes have ended: one may be kept by several, where it was replayed."""
        with self._lock:
            ended, self._ended = tuple(self._ended), []
        for name in ended:
            self._keepers.pop(name, None)
        if ended:
            message = pickle.dumps(EndedEpisodes(ended))
            for process in self._processes:
                process.tell(message)

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

    def _settle(self, number: int, turn: Turn) -> None:
        """Give a job its turn, the first that there is."""
        self._wait_no_more(number)
        with self._lock:
            self._jobs.pop(number, None)
            future = self._futures.pop(number, None)
        if future is not None:
            future.set_result(turn)

    def _see_what_is_slow(self) -> None:
        """Note the jobs that have become slow, and let others do what waits behind them."""
        now = time.monotonic()
        for process in self._processes:
            if process.slow_at <= now:
                process.is_slow = True
                if job := self._jobs.get(process.jobs[0].number):
                    self._slow[job.task.environment] += 1
                if self._num_workers + self._num_spare > 1:
                    self._wait_again(process.share())

    def _num_wanted(self) -> int:
        """Say how many workers there should be, if there are jobs for them: a spare one where all others are held."""
        own = self._processes[: self._num_workers]
        if not self._num_spare or len(own) < self._num_workers or not all(process.is_slow for process in own):
            return self._num_workers
        with self._lock:
            is_needed = any(map(self._may_have_spare, self._waiting.environments()))
        return self._num_workers + (self._num_spare if is_needed else 0)

    def _may_have_spare(self, environment: str) -> bool:
        return self._slow[environment] < OFTEN

    def _hand_out(self) -> None:
        """Give every process with room its next job, the idle ones first, until none can be given any more."""
        passed_by = set[ScoringProcess]()
        while self._waiting and (free := [one for one in self._processes if self._has_room(one)]):
            if passed_by.issuperset(free):
                return
            for process in sorted(free, key=lambda one: (len(one.jobs), not self._has_own(one))):
                environment = self._next_for(process)
                if environment is None:
                    passed_by.add(process)
                    continue
                number = self._first_for(process, environment)
                job = self._jobs[number]
                # The earlier turns of an episode are taken again, each within its own limit.
                limit_s = self._options.timeout_s * len(job.completions) * self._share_of_limit(environment)
                try:
                    if environment in process.built:
                        process.give(number, environment, _pickled(job), limit_s)
                        self._wait_no_more(number)
                    else:
                        process.build(environment, START_S)
                except BrokenProcess:
                    self._let_go(process)

    def _has_own(self, process: ScoringProcess) -> bool:
        """Whether one of the next jobs goes on with an episode that a process keeps."""
        if not self._keepers:
            return False
        with self._lock:
            names = self._waiting.environments()
        return any(self._keeper(self._first_for(process, name)) is process for name in names)

    def _first_for(self, process: ScoringProcess, environment: str) -> int:
        """Choose the job of an environment that a process gets next: the first, or one nearly so that it goes on with.

        A process that keeps none of them takes the first all the same: what it does not keep it replays.
        """
        if not self._keepers:
            return self._waiting.first(environment)
        with self._lock:
            numbers = self._waiting.next_few(environment, NEXT_FEW)
        return next((number for number in numbers if self._keeper(number) is process), numbers[0])

    def _keeper(self, number: int) -> ScoringProcess | None:
        job = self._jobs[number]
        return self._keepers.get((job.task.environment, job.episode)) if job.episode else None

    def _note_keeper(self, process: ScoringProcess, number: int, turn: Turn) -> None:
        """Note who keeps the episode of a job that is done, unless it is over."""
        job = self._jobs.get(number)
        if job is None or not job.episode:
            return
        name = (job.task.environment, job.episode)
        self._keepers.pop(name, None)
        if not turn.done:
            self._keepers[name] = process
        while len(self._keepers) > MOST_KEPT:
            del self._keepers[next(iter(self._keepers))]

    def _has_room(self, process: ScoringProcess) -> bool:
        """Whether a process may be given a job; not behind one that is likely to be slow."""
        last = self._jobs.get(process.jobs[-1].number) if process.jobs else None
        return process.has_room and not (last is not None and self._slow[last.task.environment])

    def _next_for(self, process: ScoringProcess) -> str | None:
        """Name the environment whose first job a process gets next, or which it builds next; None: it gets none now.

        The first process takes them in their order, so that nothing waits for ever; others take first what is quick.
        Of an environment that this process has not built (processes held by a slow job do not count as others):
        - another process has it ready: built here only if this process is idle and nothing else is to do;
        - another is building it: left to that one until it is ready, so that a long build holds one process;
        - neither: built here, and where this process is at work it gets nothing else until it is idle.
        """
        with self._lock:
            names = self._waiting.environments()
        place = self._processes.index(process)
        if place > 0:
            names.sort(key=lambda name: self._slow[name] > 0)
        if place >= self._num_workers:
            names = [name for name in names if self._may_have_spare(name)]
        ready_elsewhere = []
        for name in names:
            if name in process.built:
                return name
            others = [other for other in self._processes if name in other.built and not other.is_slow]
            if any(other.is_ready for other in others):
                ready_elsewhere.append(name)
            elif not any(other.built[-1] == name for other in others):  # the last one is what it builds
                return None if process.jobs else name
        return ready_elsewhere[0] if ready_elsewhere and not process.jobs else None

    def _wait_again(self, numbers: Sequence[int]) -> None:
        with self._lock:
            jobs = [(self._jobs[number].task.environment, number) for number in numbers if number in self._jobs]
            self._waiting.put_back(jobs)

    def _wait_no_more(self, number: int) -> bool:
        """Have a job wait no more; whether it did."""
        with self._lock:
            job = self._jobs.get(number)
            return job is not None and self._waiting.remove(job.task.environment, number)

    def _share_of_limit(self, environment: str) -> float:
        """Say how much of its limit a score gets: the n-th that times out costs an n-th, a tenth at the least.

        So what hangs costs a batch a few limits and not one a row; what is sound takes far less than a tenth.
        """
        return max(LEAST_SHARE, 1 / (1 + self._timed_out[environment]))

    def _listen(self) -> Found:
        poller, at = select.poll(), {process.fileno(): process for process in self._processes}
        poller.register(self._wake[0], select.POLLIN)
        for descriptor, process in at.items():
            poller.register(descriptor, select.POLLIN | (select.POLLOUT if process.unsent else 0))
        next_deadline = min((min(process.deadline, process.slow_at) for process in self._processes), default=0.0)
        left_s = max(0.0, next_deadline - time.monotonic())
        heard = poller.poll(None if math.isinf(left_s) else math.ceil(1000 * left_s))
        self._see_what_is_slow()  # before answers are read: one that came late was slow as well
        for descriptor, _ in heard:
            if descriptor == self._wake[0]:
                os.read(descriptor, PIPE_BYTES)
            else:
                yield from self._hear(at[descriptor])
        now = time.monotonic()
        for process in [one for one in self._processes if one.deadline <= now]:
            for number, turn in self._lose(process, "timed out"):
                if job := self._jobs.get(number):  # nobody else was quicker
                    self._timed_out[job.task.environment] += 1
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
                    number = self._finish(process)
                    self._note_keeper(process, number, turn)
                    yield number, turn
                elif answer == READY:
                    process.is_ready, process.deadline = True, math.inf
                    if process.built:
                        self._has_started, self._num_failed = True, 0
                else:
                    raise BrokenProcess("it begins with something else")
        except (BrokenProcess, ValueError, TypeError, KeyError, RecursionError):  # no answer of ours: it lies
            yield from self._lose(process, CRASHED)
        if process.is_worn and not process.jobs:
            self._let_go(process, gently=True)

    def _finish(self, process: ScoringProcess) -> int:
        """Note that a worker has done a job, and whether that was slow; say which."""
        was_slow, number = process.is_slow, process.finish()
        if was_slow:  # it goes on with what nobody else has begun
            process.shared = {one for one in process.shared if not self._wait_no_more(one)}
        elif process.took_s < SLOW_S and (job := self._jobs.get(number)):
            self._slow.pop(job.task.environment, None)
        return number

    def _lose(self, process: ScoringProcess, reason: str) -> Found:
        """End a worker; the score it worked at is lost with it, and its other jobs wait again."""
        is_spare = self._processes.index(process) >= self._num_workers
        self._let_go(process)
        if not process.is_ready and is_spare:
            self._num_spare = 0  # there is no room for it; the others do without
        elif not process.is_ready:
            self._num_failed += 1
            if not self._has_started or self._num_failed >= FAILED_STARTS:
                where = f" to build {process.built[-1]}" if process.built else ""
                end(process.leader)
                time.sleep(LAST_WORDS_S)
                words = self.output.last_line() if self.output is not None else ""
                raise EnvironmentFault(
                    f"scoring processes do not start: they end at once, or take longer than {START_S:.0f} s{where}"
                    f"{f' (the last says: {words})' if words else ''}."
                    " If a script of yours starts the run, let it do so under `if __name__ == '__main__':`, as each"
                    " process imports the script; `scoring: {isolation: none}` scores without them"
                )
        elif process.jobs:
            self._wait_again(process.share())
            yield process.jobs[0].number, unscorable(reason)

    def _let_go(self, process: ScoringProcess, gently: bool = False) -> None:
        """Tell a worker to end, or let it, without waiting for it."""
        if process in self._processes:
            self._processes.remove(process)
            self._keepers = {name: keeper for name, keeper in self._keepers.items() if keeper is not process}
            if gently:
                process.hang_up()
            else:
                process.tell_to_end()
            self._ending.append(process)
