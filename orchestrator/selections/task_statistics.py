"""Numbers of every task in arrays, whose state holds only the tasks that were ever tried.

MERGED:
What a batch showed, as arrays: the form in which selections learn.
A bounded memory of tasks with numbers of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.bandits.contracts import Floats
from orchestrator.selections.contracts import Positions, Selection, TaskResult


@dataclass(frozen=True)
class BatchOutcomes:
    """What the tasks of one batch showed; arrays [S], an entry for each different task."""

    step: int  # the selection's clock when they were chosen
    at: Positions  # ascending
    score: Floats  # mean over all the task's samples
    num_samples: Floats  # how many those are
    signal: Floats  # mean over the task's groups that carry a comparison; NaN without one

    @property
    def mean_score(self) -> float:
        """Mean score of the batch's samples."""
        return float(np.average(self.score, weights=self.num_samples))


def by_step(tried: Sequence[TaskResult]) -> list[BatchOutcomes]:
    """Gather what was tried by the batch it was chosen for, oldest first, whatever the order of telling."""
    batches: dict[int, list[TaskResult]] = {}
    for one in tried:
        batches.setdefault(one.step, []).append(one)
    return [_gathered(step, batches[step]) for step in sorted(batches)]


def _gathered(step: int, tried: Sequence[TaskResult]) -> BatchOutcomes:
    """Sum up by task: one that was played twice in a batch has shown one thing with more samples."""
    given = np.array([one.position for one in tried], np.int64)
    score = np.array([one.score for one in tried], np.float64)
    samples = np.array([one.num_samples for one in tried], np.float64)
    signal = np.array([np.nan if one.signal is None else one.signal for one in tried], np.float64)
    at, place = np.unique(given, return_inverse=True)

    def total(of: Floats) -> Floats:
        return np.bincount(place, weights=of, minlength=len(at)).astype(np.float64)

    num_samples, told = total(samples), ~np.isnan(signal)
    with np.errstate(invalid="ignore"):
        signals = total(np.where(told, signal, 0.0)) / total(told.astype(np.float64))
    return BatchOutcomes(step, at, total(score * samples) / num_samples, num_samples, signals)


class TaskStatistics(Selection):
    """A selection with numbers [N] of its tasks: `keep` makes them, `note` says which now have values of their own."""

    def __init__(self, num_tasks: int, rng: np.random.Generator) -> None:
        super().__init__(num_tasks, rng)
        self._starts: dict[str, float] = {}
        self._is_tried = np.zeros(num_tasks, bool)

    def keep(self, **starts: float) -> None:
        """Keep numbers of the tasks: an attribute [N] for each name, with the value of a task that was never tried."""
        for name, start in starts.items():
            self._starts[name] = start
            setattr(self, name, np.full(self.num_tasks, start, np.float64))

    def note(self, at: Positions) -> None:
        """Say that these tasks were tried."""
        self._is_tried[at] = True

    @property
    def tried(self) -> Positions:
        """The tasks that were ever tried, ascending."""
        return np.flatnonzero(self._is_tried)

    def state(self) -> dict[str, Any]:
        """Add the numbers of the tasks that were tried."""
        tried = self.tried
        numbers = {name: getattr(self, name)[tried].tolist() for name in self._starts}
        return {**super().state(), "tried": tried.tolist(), **numbers}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue; the tasks not named begin as new."""
        super().load_state(state)
        tried = np.array(state["tried"], np.int64)
        self._is_tried[:] = False
        self.note(tried)
        for name, start in self._starts.items():
            numbers = getattr(self, name)
            numbers[:] = start
            numbers[tried] = state[name]


class TaskBuffer:
    """Some tasks, ascending by position, and named numbers [M] of each: as many as were put and not let go of."""

    def __init__(self, *names: str) -> None:
        self.at: Positions = np.empty(0, np.int64)
        self._numbers: dict[str, Floats] = {name: np.empty(0) for name in names}

    def __len__(self) -> int:
        return len(self.at)

    def __getitem__(self, name: str) -> Floats:
        """The numbers of this name [M], which may be written to."""
        return self._numbers[name]

    def has(self, at: Positions) -> NDArray[np.bool_]:
        """Say of tasks [S] whether each is here."""
        return np.isin(at, self.at)

    def put(self, at: Positions, **numbers: Floats) -> None:
        """Take in tasks [S], all different, with all their numbers [S], in the place of what was known of them."""
        stays = ~np.isin(self.at, at)
        order = np.argsort(together := np.concatenate([self.at[stays], at]))
        for name, old in self._numbers.items():
            self._numbers[name] = np.concatenate([old[stays], numbers[name]])[order]
        self.at = together[order]

    def only(self, stays: NDArray[np.bool_]) -> None:
        """Let go of all but these, said of each [M]."""
        self.at = self.at[stays]
        self._numbers = {name: numbers[stays] for name, numbers in self._numbers.items()}

    def at_most(self, num: int, worth: Floats) -> None:
        """Let go of those of least worth [M] until `num` are left; of equals, those of higher positions go."""
        if len(self) > num:
            stays = np.zeros(len(self), bool)
            stays[np.argsort(-worth, kind="stable")[:num]] = True
            self.only(stays)

    def state(self) -> dict[str, list[float]]:
        """All of it."""
        return {"at": self.at.tolist(), **{name: numbers.tolist() for name, numbers in self._numbers.items()}}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from it."""
        self.at = np.array(state["at"], np.int64)
        self._numbers = {name: np.array(state[name], np.float64) for name in self._numbers}
