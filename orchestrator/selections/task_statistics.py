"""What selections know of tasks: the outcomes of a batch, numbers of all tasks, numbers of a bounded buffer of them."""

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
    """Outcomes of one batch: arrays [S], an entry for each different task."""

    step: int  # the selection's clock when they were chosen
    at: Positions  # ascending
    score: Floats  # mean over all the task's samples
    num_samples: Floats  # how many those are
    signal: Floats  # mean over the task's groups that have one; NaN without any

    @property
    def mean_score(self) -> float:
        """Mean score of the batch's samples."""
        return float(np.average(self.score, weights=self.num_samples))


def by_step(tried: Sequence[TaskResult]) -> list[BatchOutcomes]:
    """Group outcomes by the batch that the tasks were chosen for, oldest first."""
    batches: dict[int, list[TaskResult]] = {}
    for one in tried:
        batches.setdefault(one.step, []).append(one)
    return [_gathered(step, batches[step]) for step in sorted(batches)]


def _gathered(step: int, tried: Sequence[TaskResult]) -> BatchOutcomes:
    given = np.array([one.position for one in tried], np.int64)
    score = np.array([one.score for one in tried], np.float64)
    samples = np.array([one.num_samples for one in tried], np.float64)
    signal = np.array([np.nan if one.signal is None else one.signal for one in tried], np.float64)
    at, place = np.unique(given, return_inverse=True)

    def total(of: Floats) -> Floats:
        return np.bincount(place, weights=of, minlength=len(at)).astype(np.float64)

    num_samples, known = total(samples), ~np.isnan(signal)
    with np.errstate(invalid="ignore"):
        signals = total(np.where(known, signal, 0.0)) / total(known.astype(np.float64))
    return BatchOutcomes(step, at, total(score * samples) / num_samples, num_samples, signals)


class TaskStatistics(Selection):
    """A selection with numbers [N] of its tasks; its state holds only tasks that `note` marked as tried."""

    def __init__(self, num_tasks: int, rng: np.random.Generator) -> None:
        super().__init__(num_tasks, rng)
        self._starts: dict[str, float] = {}
        self._is_tried = np.zeros(num_tasks, bool)

    def keep(self, **starts: float) -> None:
        """Keep numbers of the tasks: an attribute [N] for each name, with the value of an untried task."""
        for name, start in starts.items():
            self._starts[name] = start
            setattr(self, name, np.full(self.num_tasks, start, np.float64))

    def note(self, at: Positions) -> None:
        """Mark tasks as tried."""
        self._is_tried[at] = True

    @property
    def tried(self) -> Positions:
        """Tasks that were ever tried, ascending."""
        return np.flatnonzero(self._is_tried)

    def state(self) -> dict[str, Any]:
        tried = self.tried
        numbers = {name: getattr(self, name)[tried].tolist() for name in self._starts}
        return {**super().state(), "tried": tried.tolist(), **numbers}

    def load_state(self, state: Mapping[str, Any]) -> None:
        super().load_state(state)
        tried = np.array(state["tried"], np.int64)
        self._is_tried[:] = False
        self.note(tried)
        for name, start in self._starts.items():
            numbers = getattr(self, name)
            numbers[:] = start
            numbers[tried] = state[name]


class TaskBuffer:
    """Some tasks, ascending by position, with named numbers [M]."""

    def __init__(self, *names: str) -> None:
        self.at: Positions = np.empty(0, np.int64)
        self._numbers: dict[str, Floats] = {name: np.empty(0) for name in names}

    def __len__(self) -> int:
        return len(self.at)

    def __getitem__(self, name: str) -> Floats:
        """Numbers of this name [M], writable."""
        return self._numbers[name]

    def has(self, at: Positions) -> NDArray[np.bool_]:
        """Whether each of the tasks [S] is in the buffer."""
        return np.isin(at, self.at)

    def put(self, at: Positions, **numbers: Floats) -> None:
        """Add or replace tasks [S], all different, with all their numbers [S]."""
        stays = ~np.isin(self.at, at)
        order = np.argsort(together := np.concatenate([self.at[stays], at]))
        for name, old in self._numbers.items():
            self._numbers[name] = np.concatenate([old[stays], numbers[name]])[order]
        self.at = together[order]

    def only(self, stays: NDArray[np.bool_]) -> None:
        """Keep only these, a flag for each [M]."""
        self.at = self.at[stays]
        self._numbers = {name: numbers[stays] for name, numbers in self._numbers.items()}

    def at_most(self, num: int, worth: Floats) -> None:
        """Keep the `num` of highest worth [M]; of equals, those of lower positions."""
        if len(self) > num:
            stays = np.zeros(len(self), bool)
            stays[np.argsort(-worth, kind="stable")[:num]] = True
            self.only(stays)

    def state(self) -> dict[str, list[float]]:
        return {"at": self.at.tolist(), **{name: numbers.tolist() for name, numbers in self._numbers.items()}}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.at = np.array(state["at"], np.int64)
        self._numbers = {name: np.array(state[name], np.float64) for name in self._numbers}
