"""What a batch showed, as arrays: the form in which selections learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.bandits.contracts import Floats
from orchestrator.selections.contracts import Positions, TaskResult


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
