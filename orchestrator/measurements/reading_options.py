"""The options of what reads the network and its gradients, and the passes that a look takes; without torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.measurements.budget import UPDATE
from orchestrator.measurements.played_tasks import num_tasks

if TYPE_CHECKING:
    from orchestrator.measurements.surroundings import Surroundings


class NetworkOptions(BaseModel):
    """Options of `measure: network`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    type: Literal["network"] = "network"
    prompts: int = Field(32, ge=1, description="Tasks of every environment whose answers are frozen.")
    responses: int = Field(4, ge=1, description="Answers to each of them.")
    positions: int = Field(
        4096,
        ge=1,
        description="Tokens of all frozen answers, at most, whose distribution is followed (KL, flips); at least one "
        "of every environment.",
    )
    top: int = Field(
        64,
        ge=1,
        description="Likeliest tokens kept of each; the mass of the others is one outcome more. KL is exact where the "
        "vocabulary has no more, and otherwise never above the exact one.",
    )


class GradientOptions(BaseModel):
    """Options of `measure: gradients`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    type: Literal["gradients"] = "gradients"
    prompts: int = Field(64, ge=1, description="Tasks of every environment, with all answers of the evaluation.")


def network_passes(config: NetworkOptions, around: Surroundings, joining: Sequence[str] = ()) -> float:
    """Passes of a look: a forward one of every frozen row, and of the prompts that the ranks need beside those."""
    nums, lengths = num_tasks(around.held_out), around.evaluation.lengths
    answered = {name: min(config.prompts, nums[name]) for name in joining or nums}
    wanted = num_ranked(around, joining)
    alone = max(0, wanted - sum(answered.values())) if sum(nums.values()) >= wanted else 0
    per_task = min(config.responses, around.spec.evaluate.samples)
    return sum(num * lengths[name] for name, num in answered.items()) * per_task + float(alone)


def num_ranked(around: Surroundings, joining: Sequence[str]) -> int:
    """Prompts whose features are ranked: twice their width; none where only environments that joined are told."""
    return 0 if joining else 2 * around.learner.policy.width


def gradient_passes(config: GradientOptions, around: Surroundings, joining: Sequence[str] = ()) -> float:
    """Passes of a look, at most: an update's of every sample, since groups without spread are not known before."""
    nums, lengths = num_tasks(around.held_out), around.evaluation.lengths
    tasks = sum(min(config.prompts, nums[name]) * lengths[name] for name in joining or nums)
    return UPDATE * around.spec.evaluate.samples * tasks
