"""Sliding-window UCB: the arm with the highest optimistic estimate, by the last steps alone.

    index_k = S_k / N_k + width sqrt(xi ln n / N_k),  N, S over the last `window` steps, n = sum of N
    (N counts slots; with one slot a step n = min(t, window));  the highest index is picked

Source: arXiv 0805.3415 (Garivier and Moulines), with width = b for rewards of range b; curricula reference, section
3.4. Its choice of window, 2 b sqrt(T ln T / changes) of T steps, is not verified.
Reward: in [0, 1]; width is in its units. With the standardised signal width 2, xi .6 and window 20 were tried (8.2):
worse than discounting when skills drift; the default is the same for the raw signal, whose range is half as large.
The slots of a batch are filled in turn with virtual counts (`index_rule`). An arm never seen comes first, and so does
one whose last slot has left the window. It forgets everything at once, `window` steps after it was seen; feedback later
than that is dropped. The probability of the best index is 1 before the floor; ties are shared.
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
    """Options of the rule, wherever it is used."""

    type: Literal["sliding_window_ucb"] = "sliding_window_ucb"
    window: int = Field(20, ge=1, description="How many steps are remembered.")
    width: float = Field(1.0, gt=0, description="Of the confidence bonus, in units of the reward.")
    xi: float = Field(0.6, gt=0, description="Exploration constant; the paper wants more than 1/2.")


class Config(Options, BanditConfig):
    """Options of sliding-window UCB as the bandit of a spec."""


@dataclass
class WindowEntry:
    """What one step showed: arrays [S], an entry for each arm seen in it."""

    step: int
    at: NDArray[np.intp]  # positions of the arms
    count: Floats  # slots
    total: Floats  # sum of their rewards


class SlidingWindowUcb(IndexRule):
    """The rule; see the module. `weight` and `total` are the running sums of the window's entries."""

    weight: Floats
    total: Floats

    def __init__(
        self, arms: Iterable[str], rng: np.random.Generator, options: Options, floor: float = 0.0
    ) -> None:
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
        """Slots in the window, [K]."""
        return self.weight

    def bonus(self) -> float:
        """width sqrt(xi ln n)."""
        return ucb_bonus(self.options.width, self.options.xi, self.weight)

    def observe(self, seen: StepFeedback) -> None:
        """Let old steps leave the window, then add this one."""
        self.now = max(self.now, seen.step)
        oldest = self.now - self.options.window + 1
        while self.window and self.window[0].step < oldest:
            self._count(self.window.pop(0), -1.0)
        if seen.step >= oldest:
            entry = WindowEntry(seen.step, seen.at, seen.num_groups, seen.num_groups * seen.reward)
            insort(self.window, entry, key=lambda one: one.step)
            self._count(entry, 1.0)

    def forget(self, at: NDArray[np.intp]) -> None:
        """Forget the data of these arms."""
        for entry in self.window:
            self._keep_of(entry, ~np.isin(entry.at, at))
        self.weight[at] = self.total[at] = 0.0

    def add(self, arm: str, about: ArmInfo | None = None) -> None:
        """Add an arm: those behind it move up."""
        super().add(arm, about)
        for entry in self.window:
            entry.at = entry.at + (entry.at >= self.arms.index(arm))

    def retire(self, arm: str) -> None:
        """Take an arm out: those behind it move down."""
        at = self.arms.index(arm)
        super().retire(arm)
        for entry in self.window:
            self._keep_of(entry, entry.at != at)
            entry.at = entry.at - (entry.at > at)

    def state(self) -> dict[str, Any]:
        """Add the window."""
        window = [[one.step, one.at.tolist(), one.count.tolist(), one.total.tolist()] for one in self.window]
        return {**super().state(), "now": self.now, "window": window}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        super().load_state(state)
        self.now = int(state["now"])
        self.window = [
            WindowEntry(
                int(step), np.array(at, np.intp), np.array(count, np.float64), np.array(total, np.float64)
            )
            for step, at, count, total in state["window"]
        ]

    def _count(self, entry: WindowEntry, sign: float) -> None:
        self.weight[entry.at] += sign * entry.count
        self.total[entry.at] += sign * entry.total
        gone = entry.at[self.weight[entry.at] == 0]
        self.total[gone] = 0.0  # and not what rounding left of it

    @staticmethod
    def _keep_of(entry: WindowEntry, which: NDArray[np.bool_]) -> None:
        entry.at, entry.count, entry.total = entry.at[which], entry.count[which], entry.total[which]


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> SlidingWindowUcb:
    """Make the bandit of a spec."""
    return SlidingWindowUcb(arms, rng, config, config.floor)
