"""Which tasks may be played: the split into training and held-out pools, and what a policy admits.

A task's pool follows from its content key alone, so it is the same in every run, under every seed, in every
environment and category: a held-out problem is never trained on. Splitting by index or generator seed would not do:
80 % of three-letter `spell_backward` prompts held out that way are also in training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from environments.contracts import Environment, EnvironmentFault, Flaw, Pool, Task

# One entry a tenth: .7 to learn from, .1 for matrices and reports, .1 a scheduler may look at, .1 for a study's end.
TENTHS: tuple[Pool, ...] = ("train",) * 7 + ("anchor", "select", "final")

SCAN = 200  # indices of an endless category looked at for each task asked for
STALE = 1000  # stop after so many indices without a new task: an endless category may hold few distinct ones


def pool_of(key: str) -> Pool:
    """Say which pool a content key belongs to: shares .7, .1, .1, .1."""
    return TENTHS[int(hashlib.sha256(key.encode()).hexdigest(), 16) % len(TENTHS)]


def half_of(key: str) -> Pool:
    """Say which half of a given held-out file a content key belongs to: nothing of it is kept for a study's end."""
    return ("anchor", "select")[int(hashlib.sha256(key.encode()).hexdigest(), 16) % 2]


def belongs(environment: Environment, task: Task, pool: Pool) -> bool:
    """Say whether a task is in a pool; a closed environment is evaluated on its own tasks: all are in every pool."""
    return environment.closed or (environment.pool(task) or pool_of(task.key)) == pool


def make_task(environment: Environment, category: str, index: int) -> Task:
    """Make a task; whatever the environment raises becomes an EnvironmentFault that says what to do."""
    try:
        return environment.task(category, index)
    except EnvironmentFault:
        raise
    except Exception as error:  # foreign code; whoever wrote it can do something about it
        raise EnvironmentFault(
            f"{environment.name}: task({category!r}, {index}) raised {type(error).__name__}: {error};"
            " mend the environment, then run or resume"
        ) from error


@dataclass(frozen=True)
class PassedOver:
    """Tasks of an environment that were met and not admitted."""

    num: int
    first: str  # which the first of them was, and why, for people

    @property
    def text(self) -> str:
        """In words, without the number: more will come."""
        return f"tasks with prompts too long are left out as they are met; the first: {self.first}"


class Admission:
    """Admits every task; a subclass knows what a policy can read.

    What it says of a task depends on the task alone, so that a resumed run agrees.
    """

    def admits(self, task: Task) -> bool:
        """Say whether a task may be trained on and measured."""
        return True

    def barred(self, environment: Environment, category: str) -> NDArray[np.int64]:
        """Give the indices of a category that are known not to be admitted, ascending.

        All of them, where the environment knows its pools without making tasks (`Environment.indices`).
        """
        return np.empty(0, np.int64)

    def flaws(self, environment: str) -> Sequence[Flaw]:
        """Say why what is `barred` in an environment is, as it says itself what is wrong with its data."""
        return ()

    def take_passed_over(self) -> Mapping[str, PassedOver]:
        """Give what was met and not admitted since it was last asked, by environment; without what is `barred`."""
        return {}


ALL = Admission()


def first_tasks(
    environment: Environment, category: str, pool: Pool, n: int, admission: Admission = ALL
) -> list[Task]:
    """Return the first `n` tasks of a pool that are admitted, by index from 0, distinct by content key.

    Fewer come back when the category has no more: all of a finite one is looked at, `SCAN * n` indices of an
    endless one, and there no further than `STALE` indices beyond its last new task. The answer depends on nothing
    but the arguments; whoever evaluates often keeps it.
    """
    size = environment.size(category)
    tasks: list[Task] = []
    seen: set[str] = set()
    last_new = 0
    known = environment.indices(category, pool)
    indices = range(SCAN * n if size is None else size) if known is None else map(int, known)
    for index in indices:
        if len(tasks) == n or (size is None and index - last_new > STALE):
            break
        task = make_task(environment, category, index)
        if task.key in seen:
            continue
        seen.add(task.key)
        last_new = index
        if belongs(environment, task, pool) and admission.admits(task):
            tasks.append(task)
    return tasks
