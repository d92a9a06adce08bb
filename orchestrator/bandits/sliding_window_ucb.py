"""Sliding-window UCB: the arm with the highest optimistic estimate, by the last steps alone.

    index_k = S_k / N_k + width sqrt(xi ln n / N_k),  N and S over the last tau = `window` steps, n = sum of N
    (N counts slots; with one slot a step n = min(t, tau));  the arm of the highest index

Source: arXiv 0805.3415 (Garivier and Moulines, SW-UCB), where width = B for rewards in [0, B]; curricula reference,
section 3.4. Its choice of window, tau = 2 B sqrt(T ln T / changes) for T steps, is not verified.
Reward: in [0, 1]; width is in its units. With the standardised signal width 2, xi .6 and window 20 were tried (8.2):
worse than discounting when skills drift; the default width is half of it for the raw signal, of half the range.
Slots of a batch are filled in turn with virtual counts (`index_rule`). An arm never seen comes first, and so does one
whose last slot has left the window. Everything is forgotten `window` steps after it was seen; feedback later than that
is dropped. The probability of the best index is 1 before the floor; ties are shared.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from orchestrator.bandits.contracts import ArmInfo, BanditConfig, ChooserConfig, Floats, StepFeedback
from orchestrator.bandits.index_rule import IndexRule, ucb_bonus

SOURCE = "arXiv 0805.3415"


class Options(ChooserConfig):
    """Options of the rule alone, as `change_point` uses it."""

    type: Literal["sliding_window_ucb"] = "sliding_window_ucb"
    window: int = Field(20, ge=1, description="How many steps are remembered.")
    width: float = Field(1.0, gt=0, description="Of the confidence bonus, in units of the reward.")
    xi: float = Field(0.6, gt=0, description="Exploration constant; more than 1/2 in the paper.")


class Config(Options, BanditConfig):
    """Options of sliding-window UCB as the bandit of a spec."""


@dataclass
class WindowEntry:
    """One step of the window: arrays [S], an entry for each arm seen in it."""

    step: int
    at: NDArray[np.intp]  # positions of the arms
    count: Floats  # slots
    total: Floats  # sum of their rewards


class SlidingWindowUcb(IndexRule):
    """Sliding-window UCB; `weight` and `total` are N and S, the sums of the window's entries."""

    weight: Floats
    total: Floats

    def __init__(self, arms: Iterable[str], rng: np.random.Generator, options: Options, floor: float = 0.0) -> None:
        super().__init__(arms, rng, floor)
        self.options = options
        self.now = -1  # the latest step learned from
        self.window: list[WindowEntry] = []  # by step
        self.keep(weight=0.0, total=0.0)

    def means(self) -> Floats:
        """Mean over the window, [K]; NaN for an arm that is not in it."""
        seen = self.weight > 0
        mean: Floats = np.divide(self.total, self.weight, out=np.full(len(self.arms), np.nan), where=seen)
        return mean

    def counts(self) -> Floats:
        return self.weight

    def bonus(self) -> float:
        return ucb_bonus(self.options.width, self.options.xi, self.weight)

    def observe(self, seen: StepFeedback) -> None:
        self.now = max(self.now, seen.step)
        oldest = self.now - self.options.window + 1
        while self.window and self.window[0].step < oldest:
            self._count(self.window.pop(0), -1.0)
        if seen.step >= oldest:
            entry = WindowEntry(seen.step, seen.at, seen.num_groups, seen.num_groups * seen.reward)
            insort(self.window, entry, key=lambda one: one.step)
            self._count(entry, 1.0)

    def forget(self, at: NDArray[np.intp]) -> None:
        for entry in self.window:
            self._keep_of(entry, ~np.isin(entry.at, at))
        self.weight[at] = self.total[at] = 0.0

    def add(self, arm: str, about: ArmInfo | None = None) -> None:
        super().add(arm, about)
        for entry in self.window:
            entry.at = entry.at + (entry.at >= self._place[arm])

    def retire(self, arm: str) -> None:
        at = self._place[arm]
        super().retire(arm)
        for entry in self.window:
            self._keep_of(entry, entry.at != at)
            entry.at = entry.at - (entry.at > at)

    def state(self) -> dict[str, Any]:
        window = [[one.step, *map(self.plain, (one.at, one.count, one.total))] for one in self.window]
        return {**super().state(), "now": self.now, "window": window}

    def load_state(self, state: Mapping[str, Any]) -> None:
        super().load_state(state)
        self.now = int(state["now"])
        self.window = [
            WindowEntry(int(step), np.array(at, np.intp), np.array(count, np.float64), np.array(total, np.float64))
            for step, at, count, total in state["window"]
        ]

    def _count(self, entry: WindowEntry, sign: float) -> None:
        self.weight[entry.at] += sign * entry.count
        self.total[entry.at] += sign * entry.total
        gone = entry.at[self.weight[entry.at] == 0]
        self.total[gone] = 0.0  # no rest of rounding

    @staticmethod
    def _keep_of(entry: WindowEntry, which: NDArray[np.bool_]) -> None:
        entry.at, entry.count, entry.total = entry.at[which], entry.count[which], entry.total[which]


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> SlidingWindowUcb:
    return SlidingWindowUcb(arms, rng, config, config.floor)
