"""Gradients between environments: cosines of their policy gradients at the same weights.

Of every environment the first `prompts` tasks of the evaluation, from its categories in turn, with all answers that the
evaluation has just played: the policy's own, at temperature 1. The gradient is that of REINFORCE with the leave-one-out
advantage (RLOO) of the reward that training reads, averaged over tokens, over all trainable weights; nothing of the
run's objective beside the reward, and no optimiser, is in it (plasticity.md 3.6).

    of an environment
      cosine_<another>           below 0: conflict; above 0: transfer is likely
      gradient_norm              near 0: nothing to learn there
      gradient_split_half        cosine of two halves of its own tasks,
                                 each with every category
      gradient_noise             noise scale of four such parts
    of all
      gradient_diversity_erank   1: one direction; their number: all unrelated
      gradient_environments      that number: those with a gradient here

Read a cosine against the split-half ones of its two environments: noise alone keeps it below those. Gradients are
compared through a random projection onto 2^16 dimensions, which is off by about .004. An environment none of whose
tasks has answers of different worth has no gradient, and its numbers are missing. The cost is a forward and a
backward pass of every sample in a group with spread; and of E environments a boundary records E (E - 1) cosines,
each in the cells of both: 9,900 of 100. `evaluate.share` keeps that down, since only what is evaluated is compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import override

from orchestrator.measurements.budget import UPDATE
from orchestrator.measurements.contracts import Findings, Measurement, Tell
from orchestrator.measurements.played_tasks import by_environment, num_tasks, split_of
from orchestrator.measurements.surroundings import Surroundings
from orchestrator.played_group import Group
from orchestrator.progress import Progress
from orchestrator.rollout.player import Player
from orchestrator.stopwatch import Stopwatch
from policies.micro_batches import ForwardPasses
from policies.objectives.padding import pad
from policies.plasticity.gradients import (
    EnvironmentGradient,
    cosine,
    cosines,
    diversity,
    environment_gradient,
    with_advantages,
)
from store.records import CellRecord, NetworkRecord

SOURCE = "plasticity reference, section 3.6"


class Config(BaseModel):
    """Options of `measure: gradients`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    type: Literal["gradients"] = "gradients"
    prompts: int = Field(64, ge=1, description="Tasks of every environment, with all answers of the evaluation.")


class Gradients(Measurement):
    """Compares the policy gradients of all environments that the evaluation has just played.

    `joining` tells environments that joined, compared with each other, and nothing of all.
    """

    name = "gradients"

    def __init__(self, config: Config, around: Surroundings, joining: Sequence[str] = ()) -> None:
        self.config, self.around, self.joining = config, around, joining
        nums = {name: num for name, num in num_tasks(around.held_out).items() if not joining or name in joining}
        lengths = around.evaluation.lengths
        tasks = sum(min(config.prompts, num) * lengths[name] for name, num in nums.items())
        self.passes = UPDATE * around.spec.evaluate.samples * tasks

    @override
    def is_due(self, at: Progress) -> bool:
        return at.is_at_boundary

    @override
    def of(self, environments: Sequence[str]) -> Gradients:
        return Gradients(self.config, self.around, environments)

    @override
    def run(self, player: Player, at: Progress, watch: Stopwatch, tell: Tell) -> Findings:
        played = by_environment(self.around.evaluation.played)
        found: dict[str, EnvironmentGradient | None] = {}
        for done, (name, groups) in enumerate(played.items()):
            tell(f"the gradient of {name}", done, len(played))
            found[name] = self._gradient(groups[: self.config.prompts])
        known = {name: one for name, one in found.items() if one is not None}
        lengths = self.around.evaluation.lengths
        self.passes = UPDATE * sum(one.num_rows * lengths[name] for name, one in known.items())
        cells = [cell for name in found for cell in self._cells(name, found, len(played[name]))]
        if self.joining:
            return Findings({}, cells)
        network = [NetworkRecord("gradient_environments", len(known))]
        if len(known) > 1:
            network.append(NetworkRecord("gradient_diversity_erank", diversity(cosines(known))))
        return Findings({}, cells, network=network)

    def _gradient(self, groups: Sequence[Group]) -> EnvironmentGradient | None:
        reads_value = self.around.spec.objective.reward == "value"
        rows = [row for k, group in enumerate(groups) for row in group.trajectories(k, reads_value, lambda _: None)]
        if not rows:
            return None
        learner = self.around.learner
        passes = ForwardPasses(learner.policy, 1.0, learner.passes.micro_tokens, learner.passes.recomputes)
        return environment_gradient(passes, with_advantages(pad(rows)))

    def _cells(self, name: str, found: Mapping[str, EnvironmentGradient | None], num_groups: int) -> list[CellRecord]:
        own = found[name]
        values: dict[str, float | None] = {
            "gradient_norm": None if own is None else own.norm,
            "gradient_split_half": None if own is None else own.split_half,
            "gradient_noise": None if own is None else own.noise,
        }
        for other, its in found.items():
            if other != name:
                values[f"cosine_{other}"] = None if own is None or its is None else cosine(own.sketch_D, its.sketch_D)
        sizes = (min(num_groups, self.config.prompts), self.around.spec.evaluate.samples)
        split = split_of(self.around.environments[name])
        return [CellRecord(name, None, metric, value, None, *sizes, split) for metric, value in values.items()]


def create(config: Config, around: Surroundings) -> Gradients:
    """Make it."""
    return Gradients(config, around)
