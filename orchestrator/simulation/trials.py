"""One policy in one world with one seed: what is asked, how its bandit is made and taught, and what comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from orchestrator.bandits.contracts import ArmInfo, Bandit, Feedback, Floats, Pick, Signal, signals_of
from orchestrator.bandits.signal import mean_absolute_advantage
from orchestrator.choosing import choice
from orchestrator.errors import SpecError
from orchestrator.simulation.skills import GROUP_SIZE
from store.sentences import listed

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
    stage_signal: Literal["raw", "own"] = "raw"  # what `advantage` tells a scheduler: as runs do, or the bandit's


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
    run: Callable[[Candidate, int, TrialSetting], Trial]
    metrics: tuple[TrialMetric, ...]  # the first is what policies are ranked by
    arm_groups: tuple[str, ...]  # whose shares of the slots are kept
    curve: str = "mean pass rate"  # what the curve shows
    num_steps: int = 300
    step: str = "step"  # what a step is
    has_stages: bool = False


def thinned(rows: Floats) -> Floats:
    """Average rows [T, ...] in order to at most 300 of them."""
    if len(rows) <= POINTS:
        return rows
    edges = np.linspace(0, len(rows), POINTS + 1).astype(int)[:-1]
    sizes = np.diff([*edges, len(rows)])
    return np.asarray(np.add.reduceat(rows, edges) / sizes.reshape(-1, *[1] * (rows.ndim - 1)))


def make_bandit(config: BaseModel, about: Mapping[str, ArmInfo], rng: np.random.Generator, num_steps: int) -> Bandit:
    """Make a bandit of a world over these arms. Raises SpecError."""
    if signals_of(config).signal_scale != "none":
        raise SpecError(
            "signal_scale compares environments of different rewards; a simulated world has one: leave it out"
        )
    for option, named in choice.named_arms(config).items():
        if unknown := [arm for arm in named if arm not in about]:
            raise SpecError(f"{option} names {listed(unknown)}, which the world has not: {', '.join(about)}")
    return choice.make_bandit(config, about, rng, num_steps)


@cache
def signal_table(form: Signal) -> Floats:
    """What a group of 8 is worth in a form of signal, by how many of it succeeded: [9]."""
    groups = [[1.0] * c + [0.0] * (GROUP_SIZE - c) for c in range(GROUP_SIZE + 1)]
    return np.array([mean_absolute_advantage(rewards, form) for rewards in groups])


def feedback(picks: Sequence[Pick], solved: NDArray[np.intp], form: Signal) -> list[Feedback]:
    """Tell each pick what its group earned, and its pass rate."""
    rewards, scores = signal_table(form)[solved].tolist(), (solved / GROUP_SIZE).tolist()
    return [Feedback(pick, r, 1, s) for pick, r, s in zip(picks, rewards, scores, strict=True)]
