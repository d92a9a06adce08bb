"""Which tasks are played: the split into training and held-out pools, what a policy admits, the training tasks drawn.

A task's pool follows from its content key alone, the same in every run, under every seed, in every environment and
category: a held-out problem is never trained on. Splitting by index or generator seed would not do: 80 % of
three-letter `spell_backward` prompts held out that way are also in training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from itertools import count

import numpy as np
from numpy.typing import NDArray

from environments.contracts import MOST_TASKS, TOO_MANY, Environment, EnvironmentFault, Flaw, Pool, Task
from environments.display import Tell, Throttle
from environments.user_code import raised

# One entry a tenth: .7 to learn from, .1 for matrices and reports, .1 a scheduler may look at, .1 for a study's end.
TENTHS: tuple[Pool, ...] = ("train",) * 7 + ("anchor", "select", "final")

SCAN = 200  # indices of an endless category looked at for each task asked for
SEARCH = 1000  # indices of an endless category without a training task before it counts as all held out
PATIENCE = 64  # training tasks of an endless category tried for one that is not in the batch yet
STALE = 1000  # stop after so many indices without a new task: an endless category may hold few distinct ones


def pool_of(key: str) -> Pool:
    """Say which pool a content key belongs to: shares .7, .1, .1, .1."""
    return TENTHS[_digest(key) % len(TENTHS)]


def half_of(key: str) -> Pool:
    """Say which half of a given held-out file a content key belongs to: nothing of it is kept for a study's end."""
    return ("anchor", "select")[_digest(key) % 2]


def _digest(key: str) -> int:
    return int(hashlib.sha256(key.encode()).hexdigest(), 16)


def belongs(environment: Environment, task: Task, pool: Pool) -> bool:
    """Say whether a task is in a pool; a closed environment is evaluated on its own tasks: all are in every pool."""
    return environment.closed or (environment.pool(task) or pool_of(task.key)) == pool


def make_task(environment: Environment, category: str, index: int) -> Task:
    """Make a task; what the environment raises, or gives in its place, becomes a fault that says what to do."""
    try:
        task: object = environment.task(category, index)
    except (EnvironmentFault, KeyboardInterrupt):
        raise
    except BaseException as error:  # foreign code may raise anything; whoever wrote it can do something about it
        raise EnvironmentFault(
            f"{environment.name}: task({category!r}, {index}) raised {raised(error)};"
            " mend the environment, then run or resume"
        ) from error
    if not isinstance(task, Task):
        raise EnvironmentFault(
            f"{environment.name}: task({category!r}, {index}) returned a {type(task).__name__}, not an"
            " environments.Task; mend the environment, then run or resume"
        )
    if fault := _form_fault(task, environment.name, category, index):
        raise EnvironmentFault(
            f"{environment.name}: task({category!r}, {index}) returned {fault};"
            " mend the environment, then run or resume"
        )
    return task


def _form_fault(task: Task, environment: str, category: str, index: int) -> str | None:
    """Say what would fail later in a task, if something would; the checker looks at more."""
    if (task.environment, task.category, task.index) != (environment, category, index):
        return f"another task: {task.environment!r}, {task.category!r}, {task.index!r}"
    if not task.messages:
        return "a task without messages"
    for message in task.messages:
        known = isinstance(message, Mapping)  # foreign code may give anything
        if not known or not all(isinstance(message.get(part), str) for part in ("role", "content")):
            return "a task with a message that is no map of role and content, both strings"
    if type(task) is Task and not isinstance(task.answer, str | None):  # a lazy one is not asked for it
        return f"a task whose answer is a {type(task.answer).__name__}, not a string or None"
    return None


TOO_LONG = "tasks with prompts too long"


@dataclass(frozen=True)
class PassedOver:
    """Tasks of an environment that were met and not admitted."""

    num: int
    first: str  # which the first of them was, and why, for people
    what: str = TOO_LONG  # tasks like the first

    @property
    def text(self) -> str:
        """In words, without the number: more will come."""
        return f"{self.what} are left out as they are met; the first: {self.first}"


class Admission:
    """Admits every task; a subclass knows what a policy can read."""

    def admits(self, task: Task) -> bool:
        """Say whether a task may be trained on and measured: by the task alone, so that a resumed run agrees."""
        return True

    def limit(self, environment: str) -> int | None:
        """Give the most tokens that a prompt of an environment may have; None: any number."""
        return None

    def barred(self, environment: Environment, category: str) -> NDArray[np.int64]:
        """Give the indices of a category that are known not to be admitted, ascending: all, where it has `indices`."""
        return np.empty(0, np.int64)

    def flaws(self, environment: str) -> Sequence[Flaw]:
        """Say why what is `barred` in an environment is, as it says itself what is wrong with its data."""
        return ()

    def take_passed_over(self) -> Mapping[str, PassedOver]:
        """Give what was met and not admitted since it was last asked, by environment; without what is `barred`."""
        return {}


ALL = Admission()


def first_tasks(environment: Environment, category: str, pool: Pool, n: int, admission: Admission = ALL) -> list[Task]:
    """Return the first `n` tasks of a pool that are admitted, by index from 0, distinct by content key.

    Fewer come back when the category has no more: all of a finite one is looked at, `SCAN * n` indices of an
    endless one, and there no further than `STALE` indices beyond its last new task.
    """
    size, known = environment.size(category), environment.indices(category, pool)
    tasks, seen, last_new = list[Task](), set[str](), 0
    for index in range(SCAN * n if size is None else size) if known is None else map(int, known):
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


def _first_index(seed: int) -> int:
    """Decide where an endless category begins: below 2^30, so that added to a generator's seed it fits 32 bits."""
    return int(np.random.SeedSequence(seed).generate_state(1)[0]) % 2**30


def _all_held_out(environment: Environment, category: str, admission: Admission) -> EnvironmentFault:
    """Say that a category has nothing to train on, what the policy cannot read and why, and what can be done."""
    passed_over = admission.take_passed_over().get(environment.name)
    unread = [str(flaw) for flaw in admission.flaws(environment.name)] or ([passed_over.first] if passed_over else [])
    why = f" What the policy cannot read of {environment.name}: {'; '.join(unread)}." if unread else ""
    room = "shorter prompts or more room for them (`max_prompt_tokens`, `sampler.max_tokens`)"
    return EnvironmentFault(
        f"{environment.name}, category {category}: every task found is held out, or too long for the policy, and none"
        f" is left to train on.{why} Give the category more distinct tasks (wider options), {room}, or leave it out"
        " (`categories`)"
    )


def _size(environment: Environment, category: str) -> int | None:
    """Give a category's size; raises EnvironmentFault where an order of its indices would fill the memory."""
    size = environment.size(category)
    if size is not None and size > MOST_TASKS:
        raise EnvironmentFault(f"{environment.name}, category {category}: {TOO_MANY}")
    return size


class TaskStream:
    """The tasks of a trainable category, in a seeded order that never ends; its whole state is two integers.

    Finite category: a fresh permutation of all its indices each epoch, held-out tasks skipped, so that no task comes
    back before every other one was drawn. Endless category: indices upward from an offset that the seed decides.
    Tasks that are not admitted are passed over. Raises EnvironmentFault if the category is only held out.
    """

    def __init__(self, environment: Environment, category: str, seed: int, admission: Admission = ALL) -> None:
        self.environment, self.category, self._admission = environment, category, admission
        self._size = _size(environment, category)
        self._offset = _first_index(seed)
        self._permutation = lru_cache(maxsize=2)(
            lambda epoch: np.random.default_rng([seed, epoch]).permutation(self._size or 0)
        )
        self.position = self.epoch = 0
        self._is_training: bytes | None = None  # by index, where known without making tasks
        known = environment.indices(category, "train")
        if known is not None and self._size is not None:
            mask = np.zeros(self._size, np.uint8)
            mask[known] = 1
            mask[admission.barred(environment, category)] = 0
            self._is_training = mask.tobytes()
        if self._size is not None:
            self._permutation(0)  # now rather than in the first step: a million indices take some 15 ms

    def draw(self, n: int, avoid: Set[str] = frozenset()) -> list[Task]:
        """Draw `n` training tasks, as far as possible all different by `Environment.distinct`, and none of `avoid`.

        Raises EnvironmentFault if the category has no training task at all.
        """
        tasks, drawn = list[Task](), set[str]()
        for _ in range(n):
            task = self._next_outside(avoid, drawn)
            if task is None:  # all that can be found is in the batch: take what comes next
                task, avoid, drawn = self._next(), frozenset(), set()
            drawn.add(self.environment.distinct(task))
            tasks.append(task)
        return tasks

    def state(self) -> dict[str, int]:
        """Give the state as plain JSON."""
        return {"position": self.position, "epoch": self.epoch}

    def load_state(self, state: Mapping[str, int]) -> None:
        """Go on where the state was taken; raises EnvironmentFault if the category had more tasks then."""
        if self._size is not None and state["position"] >= self._size:
            raise EnvironmentFault(
                f"{self.environment.name}, category {self.category}: the run stands at task {state['position']} of it,"
                f" but now it has only {self._size}; put its data back as it was, or begin a new run"
            )
        self.position, self.epoch = state["position"], state["epoch"]

    def _next_outside(self, avoid: Set[str], drawn: Set[str]) -> Task | None:
        before = self.position, self.epoch
        for _ in range(PATIENCE if self._size is None else self._size):
            task = self._next()
            key = self.environment.distinct(task)
            if key not in avoid and key not in drawn:
                return task
        self.position, self.epoch = before
        return None

    def _next(self) -> Task:
        """Draw the next training task. Two epochs hold every index at least once after any position."""
        for _ in range(SEARCH if self._size is None else 2 * self._size):
            if self._size is None:
                index = self._offset + self.position
                self.position += 1
            else:
                index = int(self._permutation(self.epoch)[self.position])
                self.position += 1
                if self.position == self._size:
                    self.position, self.epoch = 0, self.epoch + 1
            if self._is_training is not None and not self._is_training[index]:
                continue
            task = make_task(self.environment, self.category, index)
            is_training = self._is_training is not None or belongs(self.environment, task, "train")
            if is_training and self._admission.admits(task):
                return task
        raise _all_held_out(self.environment, self.category, self._admission)


def training_roster(
    environment: Environment,
    category: str,
    seed: int,
    most: int,
    tell: Tell | None = None,
    admission: Admission = ALL,
) -> NDArray[np.int64]:
    """List the indices of a category's training tasks that are admitted, ascending; the same for the same arguments.

    All of them, where known without making tasks. Otherwise tasks are made, up to `most` different ones as
    `Environment.distinct` tells: of a category that ends, out of all its indices in an order that the seed decides; of
    an endless one from where its stream begins, until `STALE` indices in a row bring no new task. `tell` is called
    with how far it is. Raises EnvironmentFault if there is no training task (among `SEARCH` of an endless category).
    """
    known = environment.indices(category, "train")
    if known is not None:
        known = np.setdiff1d(known, admission.barred(environment, category), assume_unique=True)
        if not len(known):
            raise _all_held_out(environment, category, admission)
        return known
    report = Throttle(tell or (lambda text: None))
    size = _size(environment, category)
    indices = count(_first_index(seed)) if size is None else np.random.default_rng(seed).permutation(size)
    found, seen, num_stale = list[int](), set[str](), 0
    for looked_at, index in enumerate(map(int, indices)):
        if len(found) == most or (size is None and (num_stale > STALE or (looked_at == SEARCH and not found))):
            break
        if report.is_time():
            so_far = f"{len(found):,} of up to {most:,} tasks to choose among found"
            report(f"{environment.name}/{category}: {so_far}")
        task = make_task(environment, category, index)
        num_stale += 1
        if (key := environment.distinct(task)) not in seen:
            seen.add(key)
            num_stale = 0
            if belongs(environment, task, "train") and admission.admits(task):
                found.append(index)
    if not found:
        raise _all_held_out(environment, category, admission)
    return np.array(sorted(found), np.int64)
