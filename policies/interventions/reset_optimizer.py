"""Reset optimizer: Adam forgets its moments and counts its updates anew, so the warm-up rises again.

The weights stay as they are. `boundary: {optimizer: reset}` does the same at every boundary; this one has a condition.
Over how many updates the learning rate rises is `learner.warmup`.

Source: plasticity.md 4; ReDo (arXiv 2302.12902) and ProRL (arXiv 2505.24864) both reset.
"""

from __future__ import annotations

from typing import Literal

from policies.interventions.contracts import Change, Intervention, InterventionOptions, Subject

SOURCE = "baseline"


class Config(InterventionOptions):
    type: Literal["reset_optimizer"] = "reset_optimizer"


class ResetOptimizer(Intervention):
    moves_weights = False

    def apply(self, subject: Subject) -> Change:
        num_updates = subject.optimizer.num_updates
        subject.optimizer.reset()
        return Change(f"moments of {num_updates:,} updates forgotten", num_updates > 0)


def create(config: Config) -> ResetOptimizer:
    return ResetOptimizer()
