"""Teacher-student curriculum learning: categories whose score climbs, or falls, most steeply.

    online   Q <- alpha (score - last score of the arm) + (1 - alpha) Q    at every step in which the arm had groups
    window   Q = least-squares slope of the arm's last `window` scores over their steps

    P = softmax(|Q| / tau), or with `choice: greedy` uniform over the arms of the highest |Q|;  then the floor

The floor is the epsilon of the greedy choice. |Q|, so that an arm which is being forgotten comes back.

Source: arXiv 1707.00183; alpha, window, epsilon and the slope of an arm with fewer than two scores are those of its
published code. Its tau is 4e-4, for validation scores over thousands of samples; scores of single groups scatter so
much more that .02 is our own.
Scores in [0, 1] are needed: a group without one teaches nothing; rewards are not used.
An arm with fewer than two scores has |Q| = `start`; one not picked keeps its Q. Online, weight (1 - alpha)^n after n
visits; a window forgets after `window` visits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
from pydantic import Field

from orchestrator.bandits.contracts import Bandit, BanditConfig, Floats, StepFeedback
from orchestrator.bandits.softmax import normalised, softmax

SOURCE = "arXiv 1707.00183"


class Config(BanditConfig):
    type: Literal["tscl"] = "tscl"
    slope: Literal["online", "window"] = Field("online", description="Estimate of the slope of scores.")
    learning_rate: float = Field(0.1, gt=0, le=1, description="Online: step size alpha, per visit.")
    window: int = Field(10, ge=2, description="Window: scores of the arm that count, one a visit.")
    choice: Literal["boltzmann", "greedy"] = Field("boltzmann", description="How slopes make probabilities.")
    temperature: float = Field(0.02, gt=0, description="Of the Boltzmann choice, in units of score.")
    floor: float = Field(0.1, ge=0, le=1, description="Total uniform mass F: P = (1 - F) P + F / K.")
    start: float | None = Field(
        None, ge=0, description="|Q| of an arm with fewer than two scores; null: 0 (online), 1 (window)."
    )


class Tscl(Bandit):
    """TSCL, with the last scores of every arm and their steps, [K, W], newest last, NaN before the first."""

    q: Floats
    scores: Floats
    steps: Floats

    def __init__(self, arms: Iterable[str], rng: np.random.Generator, config: Config) -> None:
        super().__init__(arms, rng, config.floor)
        self.config = config
        self.is_online = config.slope == "online"
        self.start = config.start if config.start is not None else float(not self.is_online)
        self.keep(q=self.start)
        self._clear()

    def preferences(self) -> Floats:
        steep = np.abs(self.q)
        if self.config.choice == "greedy":
            return normalised(steep == steep.max())
        return softmax(steep / self.config.temperature)

    def observe(self, seen: StepFeedback) -> None:
        scored = ~np.isnan(seen.score)
        at, score = seen.at[scored], seen.score[scored]
        if self.is_online:
            alpha = self.config.learning_rate
            change = score - self.scores[at, -1]  # NaN at the first score
            self.q[at] = np.where(np.isnan(change), self.q[at], (1 - alpha) * self.q[at] + alpha * change)
        self.scores[at] = np.column_stack([self.scores[at, 1:], score])
        self.steps[at] = np.column_stack([self.steps[at, 1:], np.full(len(at), float(seen.step))])
        if not self.is_online:
            self.q[at] = slopes(self.steps[at], self.scores[at], self.start)

    def estimates(self) -> Floats:
        """|Q| of every arm; NaN before its first score."""
        return np.where(np.isnan(self.scores[:, -1]), np.nan, np.abs(self.q))

    def state(self) -> dict[str, Any]:
        pairs = np.stack([self.steps, self.scores], axis=-1)
        if self.as_arrays:
            return {**super().state(), "last_scores": pairs}
        known = ~np.isnan(self.scores)
        last = {arm: pairs[k, known[k]].tolist() for k, arm in enumerate(self.arms)}
        return {**super().state(), "last_scores": last}

    def load_state(self, state: Mapping[str, Any]) -> None:
        super().load_state(state)
        self._clear()
        width, last = self.scores.shape[1], state["last_scores"]
        if not isinstance(last, Mapping):
            pairs = np.asarray(last)[:, -width:]
            self.steps[:, -pairs.shape[1] :], self.scores[:, -pairs.shape[1] :] = np.moveaxis(pairs, -1, 0)
            return
        for k, arm in enumerate(self.arms):
            if own := last[arm][-width:]:
                self.steps[k, -len(own) :], self.scores[k, -len(own) :] = np.transpose(own)

    def _clear(self) -> None:
        self.keep_rows(1 if self.is_online else self.config.window, scores=np.nan, steps=np.nan)


def slopes(x: Floats, y: Floats, otherwise: float) -> Floats:
    """Least-squares slope of each row of y [S, W] over x, NaN left out; `otherwise` where all x are one. [S]."""
    known = ~np.isnan(y)
    num = np.maximum(known.sum(axis=1, keepdims=True), 1)
    x, y = np.where(known, x, 0.0), np.where(known, y, 0.0)
    dx = np.where(known, x - x.sum(axis=1, keepdims=True) / num, 0.0)
    spread = (dx * dx).sum(axis=1)
    fits = spread > 0
    return np.where(fits, (dx * y).sum(axis=1) / np.where(fits, spread, 1.0), otherwise)


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> Tscl:
    return Tscl(arms, rng, config)
