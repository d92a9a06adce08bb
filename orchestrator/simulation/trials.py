"""One policy in one world with one seed: what is asked, and what comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel

from orchestrator.bandits.contracts import Floats

POINTS = 300  # of a curve, at most


@dataclass(frozen=True)
class Candidate:
    """One who competes."""

    label: str
    bandit: BaseModel
    scheduler: BaseModel | None = None

    def options(self) -> dict[str, Any]:
        """Tell all its options, defaults included."""
        made = {"bandit": self.bandit.model_dump(mode="json")}
        return made | ({"scheduler": self.scheduler.model_dump(mode="json")} if self.scheduler else {})


@dataclass(frozen=True)
class TrialSetting:
    """What all policies of a comparison have in common."""

    num_steps: int
    replay_share: float = 0.2  # worlds of stages: of every batch, on the other environments
    stage_signal: Literal["raw", "own"] = (
        "raw"  # what `advantage` tells a scheduler: as runs do, or the bandit's form
    )


@dataclass(frozen=True)
class Trial:
    """What a policy reached with one seed."""

    numbers: Mapping[str, float]  # by metric
    curve: Floats  # [points] of the world's performance over its steps
    shares: Floats  # [points, arm groups], each point's slots by group of arms


@dataclass(frozen=True)
class TrialMetric:
    """A number of a trial, and how it is shown."""

    name: str
    title: str
    digits: int = 3
    higher_is_better: bool | None = True  # None: neither


@dataclass(frozen=True)
class World:
    """A world: its physics is `run`."""

    name: str
    letter: str
    about: str
    metrics: tuple[TrialMetric, ...]  # the first is what policies are ranked by
    arm_groups: tuple[str, ...]  # whose shares of the slots are kept
    curve: str  # what the curve shows
    num_steps: int
    step: str  # what a step is
    has_stages: bool
    run: Callable[[Candidate, int, TrialSetting], Trial]


def thinned(rows: Floats) -> Floats:
    """Average rows [T, ...] in order to at most 300 of them."""
    if len(rows) <= POINTS:
        return rows
    edges = np.linspace(0, len(rows), POINTS + 1).astype(int)[:-1]
    sizes = np.diff([*edges, len(rows)])
    return np.asarray(np.add.reduceat(rows, edges) / sizes.reshape(-1, *[1] * (rows.ndim - 1)))
