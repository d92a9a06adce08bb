"""Bandits in a world: made as the conductor makes them, taught by the protocol that the conductor uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from orchestrator import registry
from orchestrator.bandits.contracts import ArmInfo, Bandit, Feedback, Floats, Pick, Signal
from orchestrator.bandits.signal import mean_absolute_advantage
from orchestrator.errors import SpecError
from orchestrator.simulation.skills import GROUP_SIZE


def make_bandit(
    config: BaseModel, about: Mapping[str, ArmInfo], rng: np.random.Generator, num_steps: int
) -> Bandit:
    """Make a bandit over these arms and tell it what is known of them. Raises SpecError."""
    if getattr(config, "signal_scale", "none") != "none":
        raise SpecError(
            "signal_scale compares environments of different rewards; a simulated world has one: leave it out"
        )
    bandit = make("bandits", config, list(about), rng)
    try:
        bandit.introduce(about, num_steps)
    except ValueError as error:
        raise SpecError(str(error)) from error
    return bandit


def make(kind: str, config: BaseModel, arms: Sequence[str], rng: np.random.Generator) -> Bandit:
    """Make a bandit or a scheduler. Raises SpecError."""
    try:
        made: Bandit = registry.create(kind, config, arms=list(arms), rng=rng)
    except ValueError as error:
        raise SpecError(str(error)) from error
    return made


@cache
def signal_table(form: Signal) -> Floats:
    """What a group of 8 is worth in a form of signal, by how many of it succeeded: [9]."""
    groups = [[1.0] * c + [0.0] * (GROUP_SIZE - c) for c in range(GROUP_SIZE + 1)]
    return np.array([mean_absolute_advantage(rewards, form) for rewards in groups])


def form_of(config: BaseModel) -> Signal:
    """Which form of signal a bandit reads; outsiders without the option read the raw one."""
    form: Signal = getattr(config, "signal", "raw")
    return form


def feedback(picks: Sequence[Pick], solved: NDArray[np.intp], form: Signal) -> list[Feedback]:
    """Tell each pick what its group earned, and its pass rate."""
    rewards, scores = signal_table(form)[solved].tolist(), (solved / GROUP_SIZE).tolist()
    return [Feedback(pick, r, 1, s) for pick, r, s in zip(picks, rewards, scores, strict=True)]
