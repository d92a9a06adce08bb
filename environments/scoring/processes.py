"""A pool of worker processes in which a job that runs over its time is killed, and only that job.

Built on pebble, which kills one task and keeps its pool; its timeout starts when a worker takes the task. What
pebble does not do: it gives up for good when a worker dies between two tasks, and tasks it had queued then never
end. So a pool that broke, or in which nothing finishes any more, is replaced and the unfinished jobs are sent again.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING

from environments.contracts import EnvironmentFault, Turn
from environments.scoring import worker
from environments.scoring.jobs import Job, unscorable
from environments.sources import EnvironmentSource

if TYPE_CHECKING:
    from pebble import ProcessPool

MAX_TASKS = 10_000  # a worker is replaced after so many jobs, and with it whatever it leaked
START_S = 120.0  # for the first worker: interpreter, imports, building the environments
STALL_S = 30.0  # beyond a job's own limit: nothing finished for so long, nothing will
POLL_S = 1.0
ATTEMPTS = 2  # times a job is sent before the pool's end counts as its doing


class KillablePool:
    """Worker processes that are started by the first job and replaced when needed.

    On Linux a worker dies with the thread that made it, so `turns` is called from a thread that lives as long as the
    pool.

    Args:
        sources: the environments that jobs may name; each worker builds its own.
        num_workers: processes.
        timeout_s: limit of one turn, seconds.
        memory_gib: limit of what one job may allocate, GiB, beyond the built environments.
    """

    def __init__(
        self, sources: Sequence[EnvironmentSource], num_workers: int, timeout_s: float, memory_gib: float
    ) -> None:
        self._sources = tuple(sources)
        self._num_workers, self._timeout_s, self._memory_gib = num_workers, timeout_s, memory_gib
        self._pool: ProcessPool | None = None

    def turns(self, jobs: Sequence[Job]) -> list[Turn]:
        """Play all jobs; the turns in the order of the jobs, unscorable where a job was killed or killed its worker.

        Raises:
            EnvironmentFault: the workers do not start, or an environment cannot be built in them.
        """
        turns: list[Turn | None] = [None] * len(jobs)
        for _ in range(ATTEMPTS):
            waiting = [i for i, turn in enumerate(turns) if turn is None]
            if not waiting:
                break
            for i, turn in zip(waiting, self._attempt([jobs[i] for i in waiting]), strict=True):
                turns[i] = turn
        return [unscorable("crashed") if turn is None else turn for turn in turns]

    def close(self) -> None:
        """Kill the workers."""
        if self._pool is not None:
            self._pool.stop()
            self._pool.join()
            self._pool = None

    def _attempt(self, jobs: Sequence[Job]) -> list[Turn | None]:
        """Send the jobs once; None for those lost with the pool."""
        pool = self._started()
        futures = [self._send(pool, job) for job in jobs]
        self._await(pool, futures, STALL_S + max(map(self._limit_s, jobs)))
        turns = [_outcome(future) for future in futures]
        if None in turns:
            self.close()
        return turns

    def _send(self, pool: ProcessPool, job: Job) -> Future[Turn]:
        try:
            future: Future[Turn] = pool.schedule(worker.run, args=(job,), timeout=self._limit_s(job))
        except RuntimeError as error:  # the pool broke while jobs were being sent
            future = Future()
            future.set_exception(BrokenProcessPool(str(error)))
        return future

    def _limit_s(self, job: Job) -> float:
        """Seconds that a job may take: the earlier turns are taken again, each within its own limit."""
        return self._timeout_s * len(job.completions)

    def _await(self, pool: ProcessPool, futures: Sequence[Future[Turn]], patience_s: float) -> None:
        """Wait until every job has ended, or until no more of them will: nothing finished for so long."""
        num_done, last_progress = -1, time.monotonic()
        while wait(futures, timeout=POLL_S).not_done and pool.active:
            done = sum(future.done() for future in futures)
            if done > num_done:
                num_done, last_progress = done, time.monotonic()
            elif time.monotonic() - last_progress > patience_s:
                return

    def _started(self) -> ProcessPool:
        """Give the pool, started and with its first worker ready."""
        if self._pool is None or not self._pool.active:
            self.close()
            self._pool = self._start()
        return self._pool

    def _start(self) -> ProcessPool:
        from pebble import ProcessPool

        pool = ProcessPool(
            max_workers=self._num_workers,
            max_tasks=MAX_TASKS,
            context=multiprocessing.get_context("spawn"),  # a fork would copy torch's threads and engines
            initializer=worker.prepare,
            initargs=(self._sources, self._memory_gib, os.getpid()),
        )
        first = pool.schedule(worker.ready)
        if not wait([first], timeout=START_S).done or first.exception() is not None:
            pool.stop()
            pool.join()
            raise EnvironmentFault(
                f"scoring processes do not start: they end at once, or take longer than {START_S:.0f} s."
                " If a script of yours starts the run, let it do so under `if __name__ == '__main__':`, as each"
                " process imports the script; `scoring: {isolation: none}` scores without them"
            )
        return pool


def _outcome(future: Future[Turn]) -> Turn | None:
    """Read what became of a job; None when it was lost with the pool."""
    from pebble import ProcessExpired

    if not future.done():
        return None
    try:
        return future.result()
    except TimeoutError:
        return unscorable("timed out")
    except ProcessExpired:
        return unscorable("crashed")
    except BrokenProcessPool:
        return None
