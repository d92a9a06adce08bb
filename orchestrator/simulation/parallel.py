"""All trials of a comparison, side by side in processes: the result does not depend on how many.

Every trial has its own seeds and knows of no other, so it does not matter where or when it runs.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker

from orchestrator.errors import UserError
from orchestrator.simulation.trials import Candidate, Trial, TrialSetting
from orchestrator.simulation.worlds import find_world


@dataclass(frozen=True)
class TrialJob:
    """One trial to run; small, because it travels to another process."""

    world: str
    entrant: Candidate
    seed: int
    setting: TrialSetting


def run_job(job: TrialJob) -> Trial:
    """Run one trial. Raises UserError for what the world or the bandit refuses, with the policy's name."""
    try:
        return find_world(job.world).run(job.entrant, job.seed, job.setting)
    except UserError as error:
        raise type(error)(f"{job.entrant.label}: {error}") from error


def jobs_of(
    world: str, entrants: Sequence[Candidate], seeds: Sequence[int], setting: TrialSetting
) -> list[TrialJob]:
    """Every policy with every seed."""
    return [TrialJob(world, entrant, seed, setting) for entrant in entrants for seed in seeds]


def run_all(
    jobs: Sequence[TrialJob], num_workers: int | None = None, tell: Callable[[int, int], None] | None = None
) -> list[Trial]:
    """Run trials, in the order of the jobs.

    Args:
        jobs: What to run.
        num_workers: Processes; default one a core. With 1 everything runs in this one.
        tell: Hears, as trials end, how many of how many have.
    """
    num_workers = min(num_workers or available_cores(), len(jobs))
    heard = tell or (lambda done, of: None)
    if num_workers <= 1:
        return list(_counted(map(run_job, jobs), len(jobs), heard))
    with _pool(num_workers) as pool:
        with _children_without_interrupts():
            futures = [pool.submit(run_job, job) for job in jobs]
        for done, future in enumerate(as_completed(futures), start=1):
            future.result()  # an error ends it all at once
            heard(done, len(jobs))
    return [future.result() for future in futures]


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _counted(trials: Iterator[Trial], of: int, heard: Callable[[int, int], None]) -> Iterator[Trial]:
    for done, trial in enumerate(trials, start=1):
        heard(done, of)
        yield trial


@contextmanager
def _pool(num_workers: int) -> Iterator[ProcessPoolExecutor]:
    """Keep processes for a while; when something goes wrong they end at once, whatever they were at."""
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(num_workers, multiprocessing.get_context("spawn"))
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
        raise
    pool.shutdown()


@contextmanager
def _children_without_interrupts() -> Iterator[None]:
    """Let processes begin deaf to Ctrl-C, which this process answers for all of them; it is only held up meanwhile."""
    resource_tracker.ensure_running()  # begins with the pool otherwise, and would unblock the signal
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)


def by_entrant(jobs: Sequence[TrialJob], trials: Sequence[Trial]) -> Mapping[str, list[Trial]]:
    """Gather the trials of each policy, in the order of the seeds."""
    gathered: dict[str, list[Trial]] = {}
    for job, trial in zip(jobs, trials, strict=True):
        gathered.setdefault(job.entrant.label, []).append(trial)
    return gathered
