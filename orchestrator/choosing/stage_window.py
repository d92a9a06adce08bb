"""A stage seen through its own groups, ten steps at a time: what stop rules read. Nothing is played for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from orchestrator.stop_rules.contracts import STEPS_PER_EVAL, WindowStats


@dataclass(frozen=True)
class StageGroup:
    """What one of the stage's own groups earned."""

    category: str
    correct: Sequence[bool]  # of its scored samples; may be empty
    signal: float | None  # raw |advantage|
    has_spread: bool | None = None  # whether the objective has anything to compare; None: cannot be told


@dataclass
class StageWindow:
    """The evals of a stage, and the steps since the last one. Survives JSON.

    A category's score is the share of its samples that were correct in the eval's steps, or its last one when none
    was drawn; one that was never drawn in the stage does not count yet. The eval's score is their plain mean.
    """

    history: list[WindowStats] = field(default_factory=list)
    scores: dict[str, float] = field(default_factory=dict)  # by category, the last known
    num_steps: int = 0  # since the last eval, as all below
    sums: dict[str, list[int]] = field(default_factory=dict)  # by category: correct, scored
    num_groups: int = 0
    signal_sum: float = 0.0
    num_signals: int = 0

    def add_step(self, groups: Sequence[StageGroup]) -> bool:
        """Take a step in; whether it completed an eval."""
        for group in groups:
            correct, scored = self.sums.get(group.category, [0, 0])
            self.sums[group.category] = [correct + sum(group.correct), scored + len(group.correct)]
            self.num_groups += bool(group.correct)
            if group.signal is not None:
                self.signal_sum, self.num_signals = self.signal_sum + group.signal, self.num_signals + 1
        self.num_steps += 1
        if self.num_steps < STEPS_PER_EVAL:
            return False
        return self._close()

    def state(self) -> dict[str, Any]:
        """Everything, as JSON."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> StageWindow:
        """Continue from a state."""
        return cls(**{**state, "history": [WindowStats(**one) for one in state["history"]]})

    def _close(self) -> bool:
        """End the eval; without a scored sample there is none."""
        self.scores |= {name: correct / scored for name, (correct, scored) in self.sums.items() if scored}
        is_complete = self.num_groups > 0
        if is_complete:
            signal = self.signal_sum / self.num_signals if self.num_signals else None
            score = float(np.mean(list(self.scores.values())))
            self.history.append(WindowStats(score, self.num_groups, signal))
        self.num_steps = self.num_groups = self.num_signals = 0
        self.sums, self.signal_sum = {}, 0.0
        return is_complete
