"""A comparison in one world: all trials, side by side in processes, and what they say.

Every trial has its own seeds and knows of no other, so the result does not depend on where or when it runs. Policies
meet the same worlds: seed by seed their differences are paired. Intervals are 95 % t-intervals over seeds.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import Any

import numpy as np

from environments.scoring.pool import available_cores
from orchestrator.errors import UserError
from orchestrator.simulation.trials import Candidate, Trial, TrialSetting, World
from orchestrator.simulation.worlds import find_world
from store.intervals import t_interval

SAYS = "Numbers of a simulated world, by which choosers compare; they do not predict what a language model will do."


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


def run_all(
    jobs: Sequence[TrialJob], num_workers: int | None = None, tell: Callable[[int, int], None] | None = None
) -> list[Trial]:
    """Run trials, in the order of the jobs, in `num_workers` processes (default: one a core), or in this one with 1.

    `tell` hears, after each trial, how many of how many have ended.
    """
    num_workers = min(num_workers or available_cores(), len(jobs))
    heard = tell or (lambda done, of: None)
    if num_workers <= 1:
        trials = []
        for done, job in enumerate(jobs, start=1):
            trials.append(run_job(job))
            heard(done, len(jobs))
        return trials
    with _pool(num_workers) as pool:
        with _children_without_interrupts():
            futures = [pool.submit(run_job, job) for job in jobs]
        for done, future in enumerate(as_completed(futures), start=1):
            future.result()  # an error ends it all at once
            heard(done, len(jobs))
    return [future.result() for future in futures]


@contextmanager
def _pool(num_workers: int) -> Iterator[ProcessPoolExecutor]:
    """Keep processes for a while; when something goes wrong they end at once, whatever they were at."""
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(num_workers, multiprocessing.get_context("spawn"))
    try:
        yield pool
    except BaseException:
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
        pool.shutdown(cancel_futures=True)  # its thread too: one that outlives this meets Python's own end of the pool
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


@dataclass(frozen=True)
class RankedValue:
    """A mean over seeds; no interval with one seed."""

    mean: float
    half: float | None  # half the width of its 95 % interval

    @property
    def is_off_zero(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.half is not None and abs(self.mean) > self.half

    def facts(self) -> dict[str, float | None]:
        """Tell it to a program."""
        return {"mean": self.mean, "half_95": self.half}


@dataclass(frozen=True)
class Row:
    """One policy: each metric, and its paired difference to the policy that all are compared with."""

    entrant: Candidate
    values: Mapping[str, RankedValue]
    differences: Mapping[str, RankedValue] | None  # None: it is that policy


@dataclass(frozen=True)
class Ranking:
    """A comparison in one world, policies in the order they were given."""

    world: World
    setting: TrialSetting
    seeds: Sequence[int]
    against: str
    rows: Sequence[Row]
    trials: Mapping[str, Sequence[Trial]]  # by policy, then seed

    def facts(self) -> dict[str, Any]:
        """Tell it to a program."""
        policies = []
        for row in self.rows:
            trials = self.trials[row.entrant.label]
            metrics = {
                metric.name: {
                    **row.values[metric.name].facts(),
                    "difference": row.differences and row.differences[metric.name].facts(),
                    "by_seed": [trial.numbers[metric.name] for trial in trials],
                }
                for metric in self.world.metrics
            }
            shares = np.mean([trial.shares.mean(axis=0) for trial in trials], axis=0).tolist()
            about = {"name": row.entrant.label, **row.entrant.options(), "metrics": metrics}
            policies.append(about | {"shares": dict(zip(self.world.arm_groups, shares, strict=True))})
        return {
            "world": self.world.name,
            "about": self.world.about,
            "num_steps": self.setting.num_steps,
            **({"replay_share": self.setting.replay_share} if self.world.has_stages else {}),
            "seeds": list(self.seeds),
            "against": self.against,
            "policies": policies,
            "note": SAYS,
        }


def rank(
    world: World,
    setting: TrialSetting,
    seeds: Sequence[int],
    entrants: Sequence[Candidate],
    trials: Sequence[Trial],
    against: str,
) -> Ranking:
    """Put the trials of all policies beside each other; they come policy by policy, each with every seed."""
    starts = range(0, len(trials), len(seeds))
    own = {one.label: trials[at : at + len(seeds)] for one, at in zip(entrants, starts, strict=True)}
    numbers = {
        label: {metric.name: np.array([trial.numbers[metric.name] for trial in found]) for metric in world.metrics}
        for label, found in own.items()
    }
    base = numbers[against]
    rows = [
        Row(
            one,
            {name: value_of(found) for name, found in numbers[one.label].items()},
            None
            if one.label == against
            else {name: value_of(found - base[name]) for name, found in numbers[one.label].items()},
        )
        for one in entrants
    ]
    return Ranking(world, setting, seeds, against, rows, own)


def value_of(numbers: np.ndarray) -> RankedValue:
    """Mean over seeds [n], and half its 95 % t-interval."""
    mean = float(numbers.mean())
    return RankedValue(mean, t_interval(numbers).high - mean if len(numbers) > 1 else None)
