"""What a stage earns its scheduler (curricula reference, section 7.2): pure functions of what the stage changed.

With s, s' the held-out scores before and after the stage, e its environment, C its cost:

    advantage    mean raw |A| of its own groups
    gain         (s'_e - s_e) / C
    total_gain   sum over all f of (s'_f - s_f) / C
    retention    (s'_e - s_e) - w * sum over f != e of max(0, max(best_f, s_f) - s'_f)

Scores lie in [0, 1], so raw |A| compares between environments; a standardised one does not (section 1.2), so the inner
bandits' form of the signal is not used here. `advantage` ignores forgetting, `gain` the other environments;
`total_gain` is the noisiest; the weight w of `retention` has to be chosen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, Field

from orchestrator.bandits.contracts import ChooserConfig

Reward = Literal["advantage", "gain", "total_gain", "retention"]
Scores = Mapping[str, float]  # held-out score in [0, 1] by environment, of those that could be scored

GAIN_SCALE = 5.0  # a good stage changes a score by about a tenth: brings changes to the size of |A|


class StageRewardConfig(ChooserConfig):
    """What a stage earns its scheduler."""

    reward: Reward = Field(
        "advantage",
        description="What a stage earns: advantage (mean raw |advantage| of its own groups), or a change of held-out "
        "scores of the `select` pool, evaluated only then: gain (its own), total_gain (all), retention (its own, "
        "less what others lost).",
    )
    scale: float | None = Field(
        None, gt=0, description="Multiplies the reward; null: 1 for advantage, 5 for changes of scores."
    )
    forgetting_weight: float = Field(
        1.0, ge=0, description="Price of a point that another environment lost, for retention."
    )

    def earned(self, outcome: StageOutcome) -> float | None:
        """Work out what a stage earned, scaled; None: nothing was observed."""
        reward = stage_reward(self.reward, outcome, self.forgetting_weight)
        return None if reward is None else reward * self.factor

    @property
    def factor(self) -> float:
        """What a reward is multiplied by."""
        return self.scale or (1.0 if self.reward == "advantage" else GAIN_SCALE)


def rewards_of(scheduler: BaseModel | None) -> StageRewardConfig:
    """Say what a stage earns this scheduler; a fixed order is told the advantage and learns nothing."""
    return scheduler if isinstance(scheduler, StageRewardConfig) else StageRewardConfig()


@dataclass(frozen=True)
class StageOutcome:
    """What the reward of a stage depends on."""

    environment: str
    signal: float | None  # mean raw |advantage| of its own groups; None: nothing could be compared
    num_groups: int  # behind the signal
    cost: float  # share of its planned steps that it took, above 0
    before: Scores = field(default_factory=dict)  # held-out, of the `select` pool
    after: Scores = field(default_factory=dict)
    best: Scores = field(default_factory=dict)  # each environment's best so far


def stage_reward(kind: Reward, outcome: StageOutcome, forgetting_weight: float = 1.0) -> float | None:
    """Reward of a stage before scaling; None: nothing was observed."""
    if kind == "advantage":
        return outcome.signal
    changes = {name: outcome.after[name] - score for name, score in outcome.before.items() if name in outcome.after}
    own = outcome.environment
    if own not in changes:
        return None
    if kind == "gain":
        return changes[own] / outcome.cost
    if kind == "total_gain":
        return math.fsum(changes.values()) / outcome.cost  # exact: a resumed run has another order of environments
    losses = (
        max(0.0, max(outcome.best.get(name, 0.0), outcome.before[name]) - outcome.after[name])
        for name in changes
        if name != own
    )
    return changes[own] - forgetting_weight * math.fsum(losses)
