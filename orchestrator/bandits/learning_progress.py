"""Learning progress: categories whose pass rate moves, seen in a fast and a slow average of it.

    s    = max(0, score - b) / (1 - b), b the score of a random policy, .75 at most
    fast <- fast + a (s - fast);   slow <- slow + a' (fast - slow)          at every step in which the arm had groups
    f(p) = (1 - p_theta) p / (p + p_theta (1 - 2 p)), p_theta = `reweight`: stretches low pass rates; null leaves them
    LP   = |f(fast) - f(slow)|
    P    = sigmoid of LP standardised over the arms that ever scored or have LP > 0, normalised; 0 for the others
           or, with `choice: softmax`, softmax(LP / temperature);   then the floor

Source: arXiv 2106.14876; fast, slow, reweight, the sigmoid and 25 % of uniform are those of its published code.
Scores in [0, 1] are needed: a group without one teaches nothing; rewards are not used.
An arm never seen has LP 0, as has one that always or never succeeds: under `sigmoid` only the floor leads to an arm
without a success, as long as there are others. One not picked keeps its averages. It forgets at the rate of the slow
average, per visit, so an arm that comes to rest is left alone after about 2 / slow visits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from orchestrator.bandits.contracts import Bandit, BanditConfig, Floats, StepFeedback
from orchestrator.bandits.softmax import normalised, softmax

SOURCE = "arXiv 2106.14876"

HIGHEST_BASELINE = 0.75


class PassRateAverages(Bandit):
    """Keeps a fast average of every arm's pass rate, and a slow one that follows the fast one.

        fast <- fast + a (score - fast),  slow <- slow + b (fast - slow),  at every visit of the arm

    A visit is a step in which the arm had groups with a score. Both averages begin at the first score: from 0 the whole
    level would count as progress (curricula reference, 2.3). A rule calls `watch` once, and `follow` in `observe`. That
    the slow average follows the fast one, not the score, is what gives the figures of the reference's section 8.3.
    """

    fast_score: Floats
    slow_score: Floats
    num_scores: Floats  # visits

    def watch(self, fast: float, slow: float, *, from_zero: bool = False) -> None:
        """Keep averages with the steps a and b in (0, 1]; `from_zero` begins both at 0, as published code does."""
        self._fast, self._slow, self._from_zero = fast, slow, from_zero
        self.keep(fast_score=0.0, slow_score=0.0, num_scores=0.0)

    def follow(self, seen: StepFeedback) -> None:
        """Move the averages of the arms that have a score."""
        scored = ~np.isnan(seen.score)
        at, score = seen.at[scored], seen.score[scored]
        is_first = (self.num_scores[at] == 0) & (not self._from_zero)
        fast = self.fast_score[at] + self._fast * (score - self.fast_score[at])
        self.fast_score[at] = np.where(is_first, score, fast)
        slow = self.slow_score[at] + self._slow * (self.fast_score[at] - self.slow_score[at])
        self.slow_score[at] = np.where(is_first, score, slow)
        self.num_scores[at] += 1

    def progress(self) -> Floats:
        """Fast minus slow average of every arm, [K], in [-1, 1]; 0 before the second visit."""
        return self.fast_score - self.slow_score


class Config(BanditConfig):
    type: Literal["learning_progress"] = "learning_progress"
    by_arm: ClassVar[tuple[str, ...]] = ("baseline",)
    fast: float = Field(0.1, gt=0, le=1, description="Step of the fast average, per visit.")
    slow: float = Field(0.1, gt=0, le=1, description="Step of the slow average of the fast one, per visit.")
    reweight: float | None = Field(
        0.1,
        gt=0,
        lt=1,
        description="p_theta of f, which stretches low pass rates; more where it is small. null: no f.",
    )
    choice: Literal["sigmoid", "softmax"] = Field("sigmoid", description="How progress makes probabilities.")
    temperature: float = Field(0.05, gt=0, description="Of the softmax, in units of pass rate.")
    floor: float = Field(0.25, ge=0, le=1, description="Total uniform mass F: P = (1 - F) P + F / K.")
    begin: Literal["first", "zero"] = Field(
        "first",
        description="Where the averages begin: at an arm's first score, or at 0, as the reference's simulation did: "
        "then an arm's whole level counts as progress at first.",
    )
    baseline: dict[str, float] = Field(
        default_factory=dict,
        description="Mean score of a random policy, by category; 0 where not given, .75 at most.",
    )


class LearningProgress(PassRateAverages):
    succeeded: Floats

    def __init__(self, arms: Iterable[str], rng: np.random.Generator, config: Config) -> None:
        super().__init__(arms, rng, config.floor)
        self.config = config
        self.watch(config.fast, config.slow, from_zero=config.begin == "zero")
        self.keep(succeeded=0.0)

    def preferences(self) -> Floats:
        lp = self.learning_progress()
        if self.config.choice == "softmax":
            return softmax(lp / self.config.temperature)
        return sigmoid_choice(lp, self.succeeded > 0)

    def observe(self, seen: StepFeedback) -> None:
        base, given = np.zeros(len(seen.at)), self.config.baseline
        if given:
            base[:] = [min(given.get(self.arms[k], 0.0), HIGHEST_BASELINE) for k in seen.at.tolist()]
        self.follow(replace(seen, score=np.maximum(0.0, seen.score - base) / (1 - base)))
        self.succeeded[seen.at[seen.score > 0]] = 1.0

    def learning_progress(self) -> Floats:
        """LP of every arm, [K], in [0, 1]."""
        fast, slow, theta = self.fast_score, self.slow_score, self.config.reweight
        return np.abs(fast - slow if theta is None else stretched(fast, theta) - stretched(slow, theta))

    def estimates(self) -> Floats:
        return np.where(self.num_scores > 0, self.learning_progress(), np.nan)


def stretched(p: Floats, theta: float) -> Floats:
    """f(p), [K]: from 0 to 1, and steepest near 0 where p_theta is small."""
    return p * (1 - theta) / (p + theta * (1 - 2 * p))


def sigmoid_choice(lp: Floats, succeeded: np.ndarray) -> Floats:
    """Probabilities [K] by standardised LP over the arms with progress or a success; over all where none has."""
    counts = (lp > 0) | succeeded
    if not counts.any():
        counts = np.ones(len(lp), bool)
    among = lp[counts]
    spread = among.std()
    z = (among - among.mean()) / spread if spread > 0 else np.zeros(len(among))
    chosen = np.zeros(len(lp))
    chosen[counts] = normalised(1 / (1 + np.exp(-z)))
    return chosen


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> LearningProgress:
    return LearningProgress(arms, rng, config)
