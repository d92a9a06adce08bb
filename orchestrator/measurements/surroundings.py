"""What surrounds a measurement: the parts of the run that it may look at, from which it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from environments import Environment
from environments.user_code import is_user_code
from orchestrator import registry
from orchestrator.measurements.contracts import HeldOut, Measurement
from orchestrator.measurements.evaluation import Evaluation
from orchestrator.spec.model import Spec

if TYPE_CHECKING:  # torch is imported with it, and a plan has none
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


def make_measurement(config: BaseModel, around: Surroundings) -> Measurement:
    """Make an entry of `measure`: ours see all that is around them, a user's own what docs/extend.md says."""
    given: dict[str, Any]
    if is_user_code(registry.type_of(config)):
        given = {"environments": around.environments, "held_out": around.held_out}
    else:
        given = {"around": around}
    made: Measurement = registry.create("measurements", config, **given)
    return made
