"""AdaRFT: the tasks whose given difficulty is nearest to a target, which rises with success and falls with failure.

    T <- clip(T + eta tanh(alpha (R_avg - beta)), d_min, d_max);   next: the tasks nearest to T

with eta = `step` (d_max - d_min), alpha = `sensitivity`, beta = `target`. Source: arXiv 2504.05520, and its published
code (uscnlp-lime/verl; curricula reference, 4.2).
Score: in [0, 1]; it must be a success rate, a shaped reward would move the target for the wrong reason.
Every task needs a difficulty: a field of the data, of any scale. On the published scale of 0 to 100 the defaults are
the published ones, among them eta = 50, with which one step can cross half of the range. A task comes once an epoch, of
equally near ones chance decides; the published code plays the same batch again while T stays. T is the only memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from orchestrator.bandits.contracts import Floats
from orchestrator.selections.contracts import Numbers, Positions, Selection, SelectionConfig, TaskResult
from orchestrator.selections.cursor import seed_from
from orchestrator.selections.draws import smallest
from orchestrator.selections.task_statistics import by_step

SOURCE = "arXiv 2504.05520"


class Config(SelectionConfig):
    reads_signal: ClassVar[bool] = False

    type: Literal["adarft"] = "adarft"
    difficulty: str = Field(
        description="Field of the data with a task's difficulty, a number: a column, or a path like extra_info.level."
    )
    step: float = Field(0.5, gt=0, description="eta, as a share of the range: how far T can move in a step.")
    sensitivity: float = Field(2.0, gt=0, description="alpha: how sharply T answers to the score.")
    target: float = Field(0.5, ge=0, le=1, description="beta: the mean score at which T stays.")
    lowest: float | None = Field(None, description="Least T; null: the least difficulty there is.")
    highest: float | None = Field(None, description="Greatest T; null: the greatest there is.")
    start: float | None = Field(None, description="T of the first step; null: the lowest.")

    @property
    def fields(self) -> Mapping[str, str]:
        return {"difficulty": self.difficulty}

    @model_validator(mode="after")
    def _range_goes_up(self) -> Self:
        if self.lowest is not None and self.highest is not None and self.highest <= self.lowest:
            raise ValueError("`highest` must be above `lowest`")
        return self


class AdaRft(Selection):
    """AdaRFT, with the tasks left in this epoch sorted by difficulty."""

    saved, comes_once = ("target", "seed", "epoch"), True
    _left: Positions
    _left_difficulty: Floats

    def __init__(self, num_tasks: int, rng: np.random.Generator, config: Config, difficulty: Floats) -> None:
        super().__init__(num_tasks, rng)
        if missing := int(np.isnan(difficulty).sum()):
            raise ValueError(
                f"adarft needs the difficulty of every task, and {missing:,} of {len(difficulty):,} have none; leave "
                "them out of the data, or name a field that all have"
            )
        self.config, self._difficulty = config, difficulty
        self.lowest = float(difficulty.min()) if config.lowest is None else config.lowest
        self.highest = float(difficulty.max()) if config.highest is None else config.highest
        if self.lowest > self.highest:
            raise ValueError(
                f"adarft's T would go from {self.lowest:g} to {self.highest:g}: the difficulties there are begin at "
                f"{difficulty.min():g} and end at {difficulty.max():g}; change `lowest` or `highest`"
            )
        self.target = self._clipped(self.lowest if config.start is None else config.start)
        self.seed, self.epoch = seed_from(rng), 0
        self._begin(self._sorted())

    def draw(self, n: int) -> Positions:
        """Take the n nearest to T that are left in the epoch; over its end, those that the batch does not have."""
        chosen = self._nearest(n)
        missing = n - len(chosen)
        if len(self._left) == 0:
            self.epoch += 1
            self._begin(self._sorted())
        if missing:
            chosen = np.concatenate([chosen, self._nearest(missing, leave_out=chosen)])
        return chosen

    def learn(self, tried: Sequence[TaskResult]) -> None:
        for batch in by_step(tried):
            eta = self.config.step * (self.highest - self.lowest)
            surplus = self.config.sensitivity * (batch.mean_score - self.config.target)
            self.target = self._clipped(self.target + eta * math.tanh(surplus))

    def state(self) -> dict[str, Any]:
        played = np.setdiff1d(np.arange(self.num_tasks), self._left, assume_unique=True)
        return {**super().state(), "played": played.tolist()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        super().load_state(state)
        self.target = self._clipped(self.target)  # a fork may have narrowed its range
        order = self._sorted()
        self._begin(order[~np.isin(order, state["played"])])

    def _nearest(self, n: int, leave_out: Positions | None = None) -> Positions:
        """Take up to n of the tasks left from a window around T."""
        reach = n + (0 if leave_out is None else len(leave_out))
        middle = int(np.searchsorted(self._left_difficulty, self.target))
        low, high = max(0, middle - reach), min(len(self._left), middle + reach)
        window = np.arange(low, high)
        if leave_out is not None:
            window = window[~np.isin(self._left[window], leave_out)]
        distance = np.abs(self._left_difficulty[window] - self.target)
        places = window[smallest(distance, n, self.rng)]
        chosen = self._left[places]
        stays = np.ones(high - low, bool)
        stays[places - low] = False
        self._left = _without(self._left, low, high, stays)
        self._left_difficulty = _without(self._left_difficulty, low, high, stays)
        return chosen

    def _begin(self, left: Positions) -> None:
        self._left, self._left_difficulty = left, self._difficulty[left]

    def _sorted(self) -> Positions:
        """All tasks by difficulty, ties in an order of the epoch."""
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.num_tasks)
        return order[np.argsort(self._difficulty[order], kind="stable")]

    def _clipped(self, target: float) -> float:
        return min(max(target, self.lowest), self.highest)


def _without(values: NDArray[Any], low: int, high: int, stays: NDArray[np.bool_]) -> NDArray[Any]:
    return np.concatenate([values[:low], values[low:high][stays], values[high:]])


def create(config: Config, num_tasks: int, rng: np.random.Generator, numbers: Numbers | None = None) -> AdaRft:
    if numbers is None:
        raise ValueError("adarft needs the tasks' difficulty")
    return AdaRft(num_tasks, rng, config, numbers["difficulty"])
