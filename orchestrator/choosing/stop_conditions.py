"""Ending a stage before its budget is used: the first of the spec's stop rules that has a reason."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator import registry
from orchestrator.progress import Progress
from orchestrator.spec.model import Stage
from orchestrator.stop_rules.contracts import StopRule
from orchestrator.stop_rules.dead_signal import DeadSignal


class StopConditions:
    """Asks the rules at every eval, from the stage's least number of steps on."""

    def __init__(self, section: Stage) -> None:
        self.min_steps = section.min_steps
        self.rules: Sequence[StopRule] = [registry.create("stop_rules", rule) for rule in section.stop]

    @property
    def ends_dead_stages(self) -> bool:
        """Whether one of the rules is for stages without signal."""
        return any(isinstance(rule, DeadSignal) for rule in self.rules)

    def verdict(self, at: Progress) -> str | None:
        """Say why this stage should end now, or None; the budget's end is no rule's business."""
        if at.stage_step < self.min_steps or at.stage_step == at.steps_per_stage:
            return None
        reasons = (rule.verdict(at.evals.history) for rule in self.rules)
        return next((reason for reason in reasons if reason is not None), None)
