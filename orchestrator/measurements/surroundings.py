"""What surrounds a measurement of ours: the parts of the run that it may look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from environments import Environment
from orchestrator.measurements.contracts import HeldOut
from orchestrator.measurements.evaluation import Evaluation
from orchestrator.spec.model import Spec
from policies.learner import Learner


@dataclass(frozen=True)
class Surroundings:
    """What a measurement of ours may look at, beside the player that it is run with."""

    spec: Spec
    environments: Mapping[str, Environment]
    held_out: Mapping[str, HeldOut]  # by pool
    evaluation: Evaluation  # of the same boundary, done first: `played` has its groups
    learner: Learner
    weights_of: Callable[[int], Path | None]  # the weights after a stage, of the run's own checkpoints; None: not here
