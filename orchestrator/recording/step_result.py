"""What one step did: the conductor's account of it, for whoever writes it down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.rollout.data_plans import RolloutBatch
from policies.learner import UpdateReport
from store.records import ArmRecord


@dataclass(frozen=True)
class StepResult:
    """A step: who chose what, how it was played, and what was learned from it."""

    played: RolloutBatch
    signals: Sequence[float | None]  # what each of its groups is worth to the bandits
    arms: Sequence[ArmRecord]  # as they stand after learning, before anything else is picked
    version: int  # of the weights that the update began with
    report: UpdateReport | None  # None: nothing could be scored
    dtype: str  # of the weights
    ends_dead_stages: bool  # there is a stop rule for stages without signal
    controlled: Mapping[str, float]  # what the objective's controller logs
    news: Sequence[str]  # what people should know of the sampler
    said: Sequence[str]  # and of the scorer
