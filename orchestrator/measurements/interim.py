"""Evaluation inside a stage, every so many of its steps: points of learning curves, which nothing else looks at.

It is the boundaries' evaluation, of the same tasks and with the same random numbers, so its values compare with theirs.
What is due follows from the step alone, and no random stream of training is touched: a run is what it is without it.
Only numbers are kept, as metrics of the step; measurements of the user's own stay at boundaries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestrator.measurements.contracts import Tell
from orchestrator.measurements.evaluation import Evaluation
from orchestrator.progress import Progress
from orchestrator.rollout.player import Player
from orchestrator.rollout.prefetch import Prefetch
from orchestrator.spec.sections import Evaluate
from orchestrator.stopwatch import Stopwatch
from store.metrics import INTERIM
from store.records import EventRecord, MetricRecord


@dataclass(frozen=True)
class InterimFindings:
    """What was found of a step, ready to be recorded with it."""

    metrics: Sequence[MetricRecord] = ()
    events: Sequence[EventRecord] = ()


class InterimEvaluation:
    """Evaluates between two boundaries what the spec asks for."""

    def __init__(self, section: Evaluate, evaluation: Evaluation, player: Player, rollouts: Prefetch) -> None:
        self.section, self.evaluation = section, evaluation
        self.player, self.rollouts = player, rollouts

    def is_due(self, at: Progress) -> bool:
        """Whether the step just done is one of them; a boundary measures the last of a stage."""
        every = self.section.every
        return every > 0 and at.stage_step % every == 0 and not at.stage_is_over

    def run(self, at: Progress, watch: Stopwatch, tell: Tell) -> InterimFindings:
        """Evaluate if it is due, beside the step's time; the policy and every training stream stay as they are."""
        if not self.is_due(at):
            return InterimFindings()
        self.rollouts.settle(watch)  # first: what is under way is played with the weights that the sampler has
        is_all = self.section.every_on == "all" or at.environment is None
        names = list(self.evaluation.anchors) if is_all else [str(at.environment)]
        with watch.aside() as own:
            found = self.evaluation.of(names).run(self.player, at, own, tell)
        self.evaluation.forget()
        return InterimFindings(
            metrics=[
                *(
                    MetricRecord(INTERIM + cell.metric, cell.value, cell.environment, cell.category, cell.num_items)
                    for cell in found.cells
                ),
                MetricRecord("seconds_evaluate", own.total),
            ],
            events=[replace(event, kind=f"{event.kind} in evaluation") for event in found.events],
        )
