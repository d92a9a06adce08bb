"""The policy gradients of environments at a boundary; what is told of them is in `gradients`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from typing_extensions import override

from orchestrator.measurements.budget import UPDATE
from orchestrator.measurements.contracts import Findings, Measurement, Tell
from orchestrator.measurements.played_tasks import by_environment, split_of
from orchestrator.measurements.reading_options import GradientOptions, gradient_passes
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


class Gradients(Measurement):
    """Compares the policy gradients of all environments that the evaluation has just played.

    `joining` tells environments that joined, compared with each other, and nothing of all.
    """

    name = "gradients"

    def __init__(self, config: GradientOptions, around: Surroundings, joining: Sequence[str] = ()) -> None:
        self.config, self.around, self.joining = config, around, joining
        self.passes = gradient_passes(config, around, joining)

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
