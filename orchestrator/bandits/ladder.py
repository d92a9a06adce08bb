"""A ladder of levels: climb when the highest level reached is mastered.

Let h be the highest level reached, the easiest at first. P is uniform over the `window` levels up to h. Only groups of
level h count; accuracy is their mean score.

    rlve            window 4. After 8 groups: h rises if accuracy >= .9; the count begins anew either way. No fall.
    reasoning_gym   window 1. Of the last 20 groups: h rises if accuracy > .7, falls if it is < .1, and on a change the
                    count begins anew.

Source: arXiv 2511.07317 (RLVE) and the trainer of reasoning_gym, with the defaults of their published code; there the
20 are single samples, here groups, which have one score each.
Scores in [0, 1] are needed: a group without one teaches nothing; rewards are not used. A level above h is not picked
(but by the floor). `levels` orders categories; an added one takes its place, and where the level h is retired the next
lower one is h.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
from pydantic import Field

from orchestrator.bandits.contracts import ArmInfo, Floats, StepFeedback
from orchestrator.bandits.difficulty_levels import LevelBandit, LevelConfig
from orchestrator.bandits.softmax import normalised

SOURCE = "arXiv 2511.07317, arXiv 2505.24760"

OWN = {"rlve": (4, 8, 0.9), "reasoning_gym": (1, 20, 0.7)}  # of each rule: window, groups, climb
ROUNDING = 1e-9  # by which a mean of means may miss a threshold that it meets


class Config(LevelConfig):
    """Options of the ladder; where one is left out, the rule has its own."""

    type: Literal["ladder"] = "ladder"
    rule: Literal["rlve", "reasoning_gym"] = Field("rlve", description="When to climb; see the method.")
    window: int | None = Field(
        None,
        ge=1,
        description="Levels picked from, the highest reached and those below; null: 4 (rlve), 1 (reasoning_gym).",
    )
    groups: int | None = Field(
        None,
        ge=1,
        description="Groups of the highest level to judge by; null: 8 (rlve), the last 20 (reasoning_gym).",
    )
    climb: float | None = Field(None, ge=0, le=1, description="Accuracy to climb; null: .9 (rlve), .7 (reasoning_gym).")
    fall: float = Field(0.1, ge=0, le=1, description="reasoning_gym: accuracy below which h falls a level.")


class Ladder(LevelBandit):
    config: Config
    saved = ("highest", "counted")

    def __init__(self, arms: Iterable[str], rng: np.random.Generator, config: Config) -> None:
        super().__init__(arms, rng, config)
        window, groups, climb = OWN[config.rule]
        self.window, self.groups = config.window or window, config.groups or groups
        self.climb = climb if config.climb is None else config.climb
        self.highest = float(self.level.min())  # h, as a level
        self.counted: list[list[float]] = []  # groups at h, oldest first: [mean score, how many]

    def introduce(self, about: Mapping[str, ArmInfo], num_steps: int | None = None) -> None:
        super().introduce(about, num_steps)
        self.highest = float(self.level.min())

    def preferences(self) -> Floats:
        levels, rung = self.rungs()
        top = self._top(levels)
        open_rungs = slice(max(0, top - self.window + 1), top + 1)
        shares = np.zeros(len(levels))
        shares[open_rungs] = 1.0
        return self.spread(normalised(shares), rung)

    def observe(self, seen: StepFeedback) -> None:
        levels, rung = self.rungs()
        top = self._top(levels)
        counts = (rung[seen.at] == top) & ~np.isnan(seen.score)
        groups = seen.num_groups[counts]
        if not groups.size:
            return
        self.counted.append([float(np.average(seen.score[counts], weights=groups)), float(groups.sum())])
        if sum(num for _, num in self.counted) >= self.groups:
            self._judge(levels, top)

    def _judge(self, levels: Floats, top: int) -> None:
        """Climb, fall or stay, by the accuracy."""
        if self.config.rule == "rlve":
            step = int(self._accuracy() > self.climb - ROUNDING)
            self.counted.clear()
        else:
            excess = sum(num for _, num in self.counted) - self.groups
            while excess >= self.counted[0][1]:
                excess -= self.counted.pop(0)[1]
            self.counted[0][1] -= excess
            accuracy = self._accuracy()
            step = int(accuracy > self.climb + ROUNDING) - int(accuracy < self.config.fall - ROUNDING)
            if step:
                self.counted.clear()
        self.highest = float(levels[min(max(top + step, 0), len(levels) - 1)])

    def _accuracy(self) -> float:
        scores, nums = zip(*self.counted, strict=True)
        return float(np.average(scores, weights=nums))

    def _top(self, levels: Floats) -> int:
        """Rung of h, or of the next lower level where h was retired."""
        return max(0, int(np.searchsorted(levels, self.highest, side="right")) - 1)


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> Ladder:
    return Ladder(arms, rng, config)
