"""Draws of training tasks: one stream per (environment, category), its whole state two integers.

The conductor holds the streams and checkpoints their states. Refill as in the curricula reference, section 2.4: no
copies and no backlog, a small category simply repeats.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from environments.contracts import Environment, EnvironmentFault, Task
from environments.pools import belongs, make_task

SEARCH = 1000  # indices of an endless category without a training task before it counts as all held out
PATIENCE = 64  # training tasks of an endless category tried for one that is not in the batch yet


class TaskStream:
    """The training tasks of a category, in a seeded order that never ends.

    Finite category: a fresh permutation of all its indices each epoch, held-out tasks skipped, so that no task comes
    back before every other one was drawn. Endless category: indices upward from an offset that the seed decides.

    Args:
        environment: where the tasks come from.
        category: name of one of its trainable categories.
        seed: at least 0; give each stream its own.

    Raises:
        EnvironmentFault: the category is only held out.
    """

    def __init__(self, environment: Environment, category: str, seed: int) -> None:
        if not {c.name: c.trainable for c in environment.categories}[category]:
            raise EnvironmentFault(
                f"{environment.name}, category {category}: held out only, nothing to train on"
            )
        self.environment, self.category = environment, category
        self._size = environment.size(category)
        self._seed = seed
        # Below 2^30, so that an index added to a generator's seed stays inside numpy's 32 bits.
        self._offset = int(np.random.SeedSequence(seed).generate_state(1)[0]) % 2**30
        self._permutation = lru_cache(maxsize=2)(self._permute)
        self._position = self._epoch = 0

    def draw(self, n: int, avoid: Set[str] = frozenset()) -> list[Task]:
        """Draw `n` training tasks, without repeats and without the keys in `avoid` as far as there are such.

        Args:
            n: how many; may exceed the number of tasks there are.
            avoid: content keys already in the batch.

        Raises:
            EnvironmentFault: the category has no training task at all.
        """
        tasks: list[Task] = []
        taken = set(avoid)
        for _ in range(n):
            task = self._next_outside(taken)
            if task is None:  # all that can be found is in the batch: take what comes next
                task, taken = self._next(), set()
            taken.add(task.key)
            tasks.append(task)
        return tasks

    def state(self) -> dict[str, int]:
        """Give the state as plain JSON."""
        return {"position": self._position, "epoch": self._epoch}

    def load_state(self, state: Mapping[str, int]) -> None:
        """Go on where the state was taken."""
        self._position, self._epoch = state["position"], state["epoch"]

    def _next_outside(self, taken: Set[str]) -> Task | None:
        """Find the next training task that is not taken; None, and nothing drawn, if there seems to be none."""
        before = self.state()
        for _ in range(PATIENCE if self._size is None else self._size):
            task = self._next()
            if task.key not in taken:
                return task
        self.load_state(before)
        return None

    def _next(self) -> Task:
        """Draw the next training task. Two epochs hold every index at least once after any position."""
        for _ in range(SEARCH if self._size is None else 2 * self._size):
            task = make_task(self.environment, self.category, self._next_index())
            if belongs(self.environment, task, "train"):
                return task
        raise EnvironmentFault(
            f"{self.environment.name}, category {self.category}: every task found is held out, none is left to train"
            " on; give the category more distinct tasks (wider options), or mark it `trainable: false`"
        )

    def _next_index(self) -> int:
        if self._size is None:
            self._position += 1
            return self._offset + self._position - 1
        index = int(self._permutation(self._epoch)[self._position])
        self._position += 1
        if self._position == self._size:
            self._position, self._epoch = 0, self._epoch + 1
        return index

    def _permute(self, epoch: int) -> NDArray[np.int64]:
        assert self._size is not None
        return np.random.default_rng([self._seed, epoch]).permutation(self._size)
