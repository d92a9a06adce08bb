"""Where a run stands: steps, stages and boundaries done. It moves only forward and survives JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from orchestrator.bandits.contracts import Pick
from orchestrator.choosing.stage_window import StageGroup, StageWindow


@dataclass
class Progress:
    """The position in a curriculum of `num_stages` stages of at most `steps_per_stage` steps.

    Boundary 0 comes before stage 1, boundary i after stage i; so i + 1 boundaries are done when stage i is.
    """

    num_stages: int
    steps_per_stage: int
    step: int = 0  # steps done in the run
    stage: int = 0  # the stage begun last; 0: none yet
    stage_step: int = 0  # steps done in it
    num_boundaries: int = 0  # boundaries done
    environment: str | None = None  # of this stage; None before the first and in flat mode
    visited: list[str] = field(default_factory=list)  # environments that had a stage, this one included
    pick: Pick | None = None  # the scheduler's, for this stage
    signal_sum: float = 0.0  # raw |advantage| over the stage's own groups
    num_signals: int = 0
    evals: StageWindow = field(default_factory=StageWindow)  # of this stage
    stop_reason: str | None = None  # a stop rule's, once it has ended the stage before its budget
    alarms: list[str] = field(default_factory=list)  # those that are on
    too_long: list[str] = field(default_factory=list)  # environments that it was told of
    silence: dict[str, list[int]] = field(default_factory=dict)  # see `_listen`
    num_unscorable_steps: int = 0  # the last steps, in a row, in which nothing could be scored

    @property
    def stage_is_over(self) -> bool:
        """All its steps are done, a stop rule ended it, or none was begun yet."""
        has_boundary = self.num_boundaries > self.stage  # whatever a fork says of a stage's steps since
        is_spent = self.stage_step == self.steps_per_stage
        return self.stage == 0 or has_boundary or is_spent or self.stop_reason is not None

    @property
    def is_at_boundary(self) -> bool:
        """The boundary after this stage is still to come."""
        return self.stage_is_over and self.num_boundaries == self.stage

    @property
    def is_finished(self) -> bool:
        """The last boundary is done."""
        return self.num_boundaries == self.num_stages + 1

    @property
    def num_steps(self) -> int:
        """Steps of the whole run, at most: stages that are over count as they were."""
        if self.stage_is_over:
            return self.step + (self.num_stages - self.stage) * self.steps_per_stage
        return self.step - self.stage_step + (self.num_stages - self.stage + 1) * self.steps_per_stage

    @property
    def stage_signal(self) -> tuple[float | None, int]:
        """Mean signal of the stage's own groups, and how many there were."""
        return (self.signal_sum / self.num_signals if self.num_signals else None), self.num_signals

    def begin_stage(self, pick: Pick | None) -> None:
        """Begin the next stage on the environment the scheduler picked."""
        self.stage, self.stage_step = self.stage + 1, 0
        self.pick, self.environment = pick, pick.arm if pick else None
        self.signal_sum, self.num_signals = 0.0, 0
        self.evals, self.stop_reason = StageWindow(), None
        if self.environment and self.environment not in self.visited:
            self.visited.append(self.environment)

    def begin_step(self) -> None:
        """Count a step."""
        self.step, self.stage_step = self.step + 1, self.stage_step + 1

    def end_step(self, groups: Sequence[StageGroup], can_update: bool) -> bool:
        """Take in what the stage's own groups earned; whether that completed an eval."""
        signals = [group.signal for group in groups if group.signal is not None]
        self.signal_sum += sum(signals)
        self.num_signals += len(signals)
        self.num_unscorable_steps = 0 if can_update else self.num_unscorable_steps + 1
        self._listen([group for group in groups if group.has_spread is not None])
        return self.evals.add_step(groups)

    def _listen(self, groups: Sequence[StageGroup]) -> None:
        """Count an environment's own steps, in a row, in which none of these groups had a signal.

        `silence` has them by the stage's environment ("" in flat mode): steps, and correct and scored samples in them.
        """
        name = self.environment or ""
        if any(group.has_spread for group in groups):
            self.silence.pop(name, None)
        elif groups:
            correct, scored = (sum(of(group.correct) for group in groups) for of in (sum, len))
            before = self.silence.get(name, [0, 0, 0])
            self.silence[name] = [before[0] + 1, before[1] + correct, before[2] + scored]

    def end_boundary(self) -> None:
        """Count a boundary."""
        self.num_boundaries += 1

    def state(self) -> dict[str, Any]:
        """Everything but what the spec says, as JSON."""
        state = asdict(self)
        del state["num_stages"], state["steps_per_stage"]
        return state

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        read = {"pick": lambda pick: pick and Pick(**pick), "evals": StageWindow.from_state}
        for name, value in state.items():
            setattr(self, name, read[name](value) if name in read else value)
