"""An environment whose categories are slices of another's: it delegates everything, and only says where tasks stand.

Content keys and the held-out split are those of the environment inside. Categories that are only evaluated there stay
as they are: a slice never mixes what is trained on with what is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from environments.contracts import (
    ORIGIN,
    Category,
    Environment,
    EnvironmentFault,
    Episode,
    Flaw,
    LazyTask,
    NoTasks,
    Pool,
    RemoteEnvironment,
    RemoteEpisode,
    Score,
    Task,
)
from environments.display import Tell, shortened
from environments.pools import Admission
from environments.slices.methods import REST, found_again, split
from environments.slices.options import SliceOptions
from environments.slices.slice_file import SliceRow, Slices, read_kept_slices

TRAINED = (None, "train")  # the pools that are trained on; None: all its tasks are
ALIKE = {"length": "all prompts are as long", "column": "all have the same number"}  # why a method made one slice


class SlicedEnvironment(Environment):
    """Another environment, split. Scoring needs no assignment: a task says where it comes from.

    `kept`: a file in which an earlier part of the run kept the assignment, which then counts, whatever became of the
    file that the options name.
    """

    def __init__(self, inside: Environment, options: SliceOptions, folder: str | None, kept: Path | None) -> None:
        self.inside, self._options, self._folder, self._kept = inside, options, folder, kept
        self._tell: Tell = lambda text: None
        self._unread: Sequence[str] = ()  # slices without a task to train on that the policy can read
        self.name, self.closed = inside.name, inside.closed
        self.scores_in_process, self.seconds = inside.scores_in_process, inside.seconds
        self.max_tokens, self.max_prompt_tokens = inside.max_tokens, inside.max_prompt_tokens
        self.symbols = inside.symbols

    def open(self, tell: Tell) -> None:
        """Open the environment inside, and split it."""
        self._tell = tell
        self.inside.open(tell)
        _ = self.slices

    @cached_property
    def slices(self) -> Slices:
        """The assignment: what the run kept, its tasks found again where the data has changed since; else made now."""
        if self._kept is not None and self._kept.is_file():
            kept = read_kept_slices(self._kept).get(self.name)
            if kept is not None and kept.version != self.inside.version:
                kept = found_again(self.inside, kept, self._options, self._tell)
            if kept is not None:
                return kept
        return split(self.inside, self._options, self._folder, self._tell)

    @cached_property
    def version(self) -> str:  # type: ignore[override]
        """That of the environment inside, with a digest of the assignment."""
        return f"{self.inside.version}+slices-{self.slices.digest}"

    @property
    def categories(self) -> Sequence[Category]:
        """The slices in their order, then the categories that are only evaluated."""
        made = []
        for name, rows in self._rows.items():
            is_trained = name not in self._unread and any(row.pool in TRAINED for row in rows)
            way = self.slices.nodes.get(name, ())
            made.append(Category(name, is_trained, {f"node_{depth}": branch for depth, branch in enumerate(way)}))
        return [*made, *self._others.values()]

    def train_on_admitted(self, admission: Admission) -> bool:
        """Have slices only evaluated of which no task to train on is admitted; says whether there are some.

        Where that would leave nothing to train on, all stay as they are.
        """
        trained = [category.name for category in self.categories if category.name in self._rows and category.trainable]
        unread = [name for name in trained if not self._has_admitted(name, admission)]
        admission.take_passed_over()  # looking ahead is no meeting
        self._unread = unread if len(unread) < len(trained) else ()
        return bool(self._unread)

    def _has_admitted(self, name: str, admission: Admission) -> bool:
        barred = set(admission.barred(self, name).tolist())
        indices = (index for index, row in enumerate(self._rows[name]) if row.pool in TRAINED and index not in barred)
        return any(not self.closed or admission.admits(self.task(name, index)) for index in indices)

    @property
    def left_out(self) -> Sequence[str]:  # type: ignore[override]
        """As of the environment inside."""
        return self.inside.left_out

    @property
    def num_left_out(self) -> int:  # type: ignore[override]
        """As of the environment inside."""
        return self.inside.num_left_out

    @property
    def flaws(self) -> Sequence[Flaw]:  # type: ignore[override]
        """As of the environment inside."""
        return self.inside.flaws

    @property
    def warnings(self) -> Sequence[str]:  # type: ignore[override]
        """As of the environment inside."""
        return self.inside.warnings

    @property
    def remarks(self) -> Sequence[str]:  # type: ignore[override]
        """Those of the environment inside, and what became of its categories."""
        split_into = _split_into(len(self.slices.rows), list(self._rows), self.slices.method)
        sizes = [self.inside.size(one.name) for one in self.inside.categories if one.trainable]
        if None not in sizes and (left := sum(map(int, filter(None, sizes))) - len(self.slices.rows)) > 0:
            split_into += f"; {left:,} others were not read, or ask what another does, and are not trained on"
        remarks = [*self.inside.remarks, split_into]
        if num := len(self.slices.missing):
            there = f"{num:,} of the {len(self.slices.named):,} tasks that the run's slices name"
            remarks.append(f"{there} are not in its data any more; they are played again once it has them")
        if self._unread:
            names = shortened(", ".join(self._unread))
            remarks.append(f"slices without a task to train on that the policy can read, not trained on: {names}")
        return remarks

    def size(self, category: str) -> int | None:
        """How many tasks a slice has."""
        return self.inside.size(category) if category in self._others else len(self._of(category))

    def task(self, category: str, index: int) -> Task:
        """Make a task of a slice: that of the environment inside, under the slice's name."""
        if category in self._others:
            return self.inside.task(category, index)
        rows = self._of(category)
        if not 0 <= index < len(rows):
            raise EnvironmentFault(f"{self.name}: slice {category!r} has no task {index}, only {len(rows)}")
        try:
            made = self.inside.task(rows[index].category, rows[index].index)
        except NoTasks as missing:
            if missing.category is not None:  # of which nobody outside knows
                missing.category = category
            raise
        if made.key != rows[index].key:
            raise EnvironmentFault(
                f"{self.name}: task {made.index} of {made.category!r} is not the one that slice {category!r} was made "
                "of, though the version is: raise the environment's version, and the tasks are found again"
            )
        data = {**made.data, ORIGIN: [made.category, made.index]}
        fields: dict[str, Any] = {"environment": self.name, "category": category, "index": index}
        if isinstance(made, LazyTask):
            return LazyTask(made.key, lambda: made.answer, **fields, messages=made.messages, data=data)
        return replace(made, **fields, data=data)

    def pool(self, task: Task) -> Pool | None:
        """As of the environment inside."""
        return self.inside.pool(unsliced(task))

    def indices(self, category: str, pool: Pool) -> NDArray[np.int64] | None:
        """Give the indices of a pool, which the assignment knows; None: this trains on all its tasks."""
        if category in self._others:
            return self.inside.indices(category, pool)
        if self.closed:
            return None
        return np.array([index for index, row in enumerate(self._of(category)) if row.pool == pool], np.int64)

    def numbers(self, category: str, field: str) -> NDArray[np.float64] | None:
        """Gather numbers of the tasks from the environment inside."""
        if category in self._others:
            return self.inside.numbers(category, field)
        rows = self._of(category)
        inside = {name: self.inside.numbers(name, field) for name in {row.category for row in rows}}
        found = [own[row.index] for row in rows if (own := inside[row.category]) is not None]
        return np.array(found, np.float64) if len(found) == len(rows) else None

    def lengths(self, category: str) -> NDArray[np.integer[Any]] | None:
        """Gather the lengths of the tasks from the environment inside."""
        if category in self._others:
            return self.inside.lengths(category)
        rows = self._of(category)
        inside = {name: self.inside.lengths(name) for name in {row.category for row in rows}}
        found = [own[row.index] for row in rows if (own := inside[row.category]) is not None]
        return np.array(found, np.int64) if len(found) == len(rows) else None

    def where(self, task: Task) -> str | None:
        """As of the environment inside."""
        return self.inside.where(unsliced(task))

    def distinct(self, task: Task) -> str:
        """As of the environment inside."""
        return self.inside.distinct(unsliced(task))

    def answer_in(self, task: Task, completion: str) -> str | None:
        """As of the environment inside."""
        return self.inside.answer_in(unsliced(task), completion)

    def score(self, task: Task, completion: str) -> Score:
        """As of the environment inside."""
        return self.inside.score(unsliced(task), completion)

    def start(self, task: Task) -> Episode:
        """As of the environment inside."""
        return self.inside.start(unsliced(task))

    @property
    def has_single_turns(self) -> bool:
        """As of the environment inside."""
        return self.inside.has_single_turns

    def legal_answer(self, task: Task, rng: np.random.Generator) -> str:
        """As of the environment inside."""
        return self.inside.legal_answer(unsliced(task), rng)

    @property
    def draws_legal_answers(self) -> bool:
        """As of the environment inside."""
        return self.inside.draws_legal_answers

    @cached_property
    def _others(self) -> Mapping[str, Category]:
        """Categories that are only evaluated."""
        return {category.name: category for category in self.inside.categories if not category.trainable}

    @cached_property
    def _rows(self) -> Mapping[str, Sequence[SliceRow]]:
        """The tasks of each slice, those of the environment inside in their order."""
        found: dict[str, list[SliceRow]] = {name: [] for name in self.slices.names}
        for row in self.slices.rows:
            found[row.slice].append(row)
        if both := sorted(found.keys() & self._others.keys()):
            raise EnvironmentFault(
                f"{self.name}: a slice and a category that is only evaluated are both called {both[0]!r}: rename one"
            )
        return {name: rows for name, rows in found.items() if rows}

    def _of(self, category: str) -> Sequence[SliceRow]:
        if category not in self._rows:
            raise EnvironmentFault(f"{self.name} has no category {category!r}; it has: {', '.join(self._rows)}")
        return self._rows[category]


class SlicedRemoteEnvironment(SlicedEnvironment, RemoteEnvironment):
    """One whose episodes live in a server: they are played as those of the environment inside."""

    def __init__(self, inside: RemoteEnvironment, options: SliceOptions, folder: str | None, kept: Path | None) -> None:
        super().__init__(inside, options, folder, kept)
        self._remote, self.lease_s = inside, inside.lease_s

    @property
    def episodes_at_once(self) -> int | None:  # type: ignore[override]
        """As of the environment inside."""
        return self._remote.episodes_at_once

    @property
    def is_needed(self) -> bool:
        """As of the environment inside."""
        return self._remote.is_needed

    @is_needed.setter
    def is_needed(self, is_needed: bool) -> None:
        self._remote.is_needed = is_needed

    @property
    def meanwhile(self) -> Callable[[], None]:
        """As of the environment inside."""
        return self._remote.meanwhile

    @meanwhile.setter
    def meanwhile(self, meanwhile: Callable[[], None]) -> None:
        self._remote.meanwhile = meanwhile

    async def begin(self, task: Task) -> RemoteEpisode:
        """As of the environment inside."""
        return await self._remote.begin(unsliced(task))

    async def close(self) -> None:
        """As of the environment inside."""
        await self._remote.close()

    def take_news(self) -> list[str]:
        """As of the environment inside."""
        return self._remote.take_news()

    def waits_for(self) -> str | None:
        """As of the environment inside."""
        return self._remote.waits_for()


def unsliced(task: Task) -> Task:
    """Give the task as the environment inside knows it; one that no slice gave comes back as it is."""
    if ORIGIN not in task.data:
        return task
    category, index = task.data[ORIGIN]
    data = {key: value for key, value in task.data.items() if key != ORIGIN}
    if isinstance(task, LazyTask):
        fields = {"environment": task.environment, "messages": task.messages, "data": data}
        return LazyTask(task.key, lambda: task.answer, category=category, index=index, **fields)
    return replace(task, category=category, index=index, data=data)


def _split_into(num: int, names: Sequence[str], method: str) -> str:
    """Say what became of so many tasks."""
    tasks = f"{num:,} task{'' if num == 1 else 's'}"
    if len(names) > 1:
        return f"{tasks} split into {len(names)} slices by {method}"
    alike = ALIKE.get(method) if num > 1 and names[0] != REST else None
    return f"{tasks} not split by {method}: {alike or f'{names[0]} is the only slice'}"
