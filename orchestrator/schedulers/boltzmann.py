"""Boltzmann choice over a constant-step estimate of what each environment's stages earn: SEC's rule, a level up.

    P = softmax(Q / tau), then the guards;   Q_k <- alpha r + (1 - alpha) Q_k for the environment of the stage

Source: arXiv 2505.14970 (the rule, there over categories); as an outer rule: curricula reference, section 8.5.
Reward: any number. An environment without a stage keeps its Q; one that never had any comes first. A stage without
signal teaches nothing. Weight (1 - alpha)^n after n of an environment's own stages.
The first stage of an environment is its first estimate, whatever alpha: stages are few, and a Q that began at 0 would
be too low when it is first compared. The numbers of section 8.5 need this reading.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
from pydantic import Field

from orchestrator.bandits import sec
from orchestrator.schedulers.guards import GuardConfig, GuardedScheduler

SOURCE = "arXiv 2505.14970"


class Config(GuardConfig):
    type: Literal["boltzmann"] = "boltzmann"
    learning_rate: float = Field(0.5, gt=0, le=1, description="Step size alpha of the estimate, per stage.")
    temperature: float = Field(0.1, gt=0, description="Of the choice, in units of the reward.")


def create(config: Config, arms: Iterable[str], rng: np.random.Generator) -> GuardedScheduler:
    names = list(arms)
    rule = sec.Config(learning_rate=config.learning_rate, temperature=config.temperature, floor=0.0, warm_step=True)
    return GuardedScheduler(names, rng, sec.Sec(names, rng, rule), config)
