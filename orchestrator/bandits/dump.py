"""DUMP: Boltzmann choice over an upper confidence bound of each arm's recent mean |advantage|.

    UCB_k = L_k + sqrt(2 ln(n_total + 1) / (n_k + 1)),  P = softmax(UCB / tau)

with L_k the mean over the arm's last `window` slots, n_k its slots so far, n_total their sum, tau the temperature.
Source: arXiv 2504.09710, the method as published; curricula reference, section 4.1. The released code updates at
validations only, from the validation reward in place of the advantage.
Reward: in [0, 1]; every slot of a step enters the window with the mean reward of its arm in that step.
An arm never seen has L = 0 and the largest bonus; one not picked keeps its L while its bonus grows with ln n_total. A
slot is forgotten after `window` more of the same arm. Counts are never discounted, so exploration fades: in long runs
`discounted_ucb` keeps it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from orchestrator.bandits.contracts import Bandit, BanditConfig, Floats, StepFeedback
from orchestrator.bandits.softmax import softmax

SOURCE = "arXiv 2504.09710"


class Config(BanditConfig):
    type: Literal["dump"] = "dump"
    window: int = Field(300, ge=1, description="Slots of an arm that its mean is of: the last so many.")
    temperature: float = Field(0.1, gt=0, description="Of the Boltzmann choice, in units of the signal.")


class Dump(Bandit):
    mean: Floats
    count: Floats
    _window: Floats  # [K, window]

    def __init__(self, arms: Iterable[str], rng: np.random.Generator, config: Config) -> None:
        super().__init__(arms, rng, config.floor)
        self.config = config
        self.keep(mean=0.0, count=0.0)
        self.keep_rows(config.window, _window=0.0)  # a ring each: slot number n is at n % window

    def bounds(self) -> Floats:
        """UCB of every arm, [K]."""
        bonus = np.sqrt(2 * np.log(self.count.sum() + 1) / (self.count + 1))
        return np.asarray(self.mean + bonus)

    def preferences(self) -> Floats:
        return softmax(self.bounds() / self.config.temperature)

    def observe(self, seen: StepFeedback) -> None:
        self._enter_window(seen)
        self.count[seen.at] += seen.num_groups
        filled = np.minimum(self.count[seen.at], self.config.window)
        self.mean[seen.at] = self._window[seen.at].sum(axis=1) / filled

    def estimates(self) -> Floats:
        return np.where(self.count > 0, self.mean, np.nan)

    def state(self) -> dict[str, Any]:
        if not self.as_arrays:
            return {**super().state(), "window": self._by_arm()}
        return {**super().state(), "window": self._filled_part(), "width": self.config.window}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state; with another `window` an arm keeps its last slots, as many as both hold.

        A longer one than it was counts only the slots that were kept: the mean is of no others.
        """
        super().load_state(state)
        now = self.config.window
        if isinstance(window := state["window"], Mapping):
            was = max(map(len, window.values()))
            window = [reward for arm in self.arms for reward in window[arm]]
        else:
            was = state.get("width", now)
        seen, filled = self._filled(was)
        rows = np.zeros((len(seen), was))
        rows[filled] = window
        num = self.count[seen].astype(int)
        held = np.minimum(num, was)
        kept = np.minimum(held, now)
        counted = np.where(kept < now, kept, num)
        k, ago = np.nonzero(np.arange(now) < kept[:, None])
        self._window = np.zeros((len(self.arms), now))
        self._window[seen[k], (counted[k] - 1 - ago) % now] = rows[k, (num[k] - 1 - ago) % was]
        self.count[seen] = counted
        cut = seen[kept < held]
        self.mean[cut] = self._window[cut].mean(axis=1)

    def _by_arm(self) -> dict[str, list[float]]:
        num = np.minimum(self.count, self.config.window).astype(int).tolist()
        return {arm: row[:n].tolist() for arm, row, n in zip(self.arms, self._window, num, strict=True)}

    def _filled_part(self) -> Floats:
        """What the windows hold, one arm after the other."""
        seen, filled = self._filled(self.config.window)
        return self._window[seen][filled]

    def _filled(self, width: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Positions of the arms that were seen, [S], and which slots of windows so wide they filled, [S, width]."""
        seen = np.flatnonzero(self.count)
        return seen, np.arange(width) < self.count[seen, None]

    def _enter_window(self, seen: StepFeedback) -> None:
        """Write each arm's mean reward over its oldest slots, once for each of its groups."""
        num = np.minimum(seen.num_groups, self.config.window).astype(int)
        rows, first = np.repeat(seen.at, num), np.repeat(np.cumsum(num) - num, num)
        slots = self.count[rows].astype(int) + np.arange(len(rows)) - first
        self._window[rows, slots % self.config.window] = np.repeat(seen.reward, num)


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> Dump:
    return Dump(arms, rng, config)
