"""Where a run stands: steps, stages and boundaries done. It moves only forward and survives JSON."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

from orchestrator.bandits.contracts import Pick
from orchestrator.stop_rules.contracts import STEPS_PER_EVAL, WindowStats

if TYPE_CHECKING:
    from orchestrator.played_group import PlayedGroup


@dataclass
class StageWindow:
    """A stage seen through its own groups, ten steps at a time: what stop rules read. Survives JSON.

    A category's score is the share of its samples that were correct in the window's steps, or its last one when none
    was drawn; one that was never drawn in the stage does not count yet. The window's score is their plain mean.
    """

    history: list[WindowStats] = field(default_factory=list)
    scores: dict[str, float] = field(default_factory=dict)  # by category, the last known
    num_steps: int = 0  # of the open window, as all below
    sums: dict[str, list[int]] = field(default_factory=dict)  # by category: correct, scored
    num_groups: int = 0
    signal_sum: float = 0.0
    num_signals: int = 0

    def add_step(self, groups: Sequence[PlayedGroup]) -> bool:
        """Take a step in; whether it completed a window. One without a scored sample leaves no numbers."""
        for group in groups:
            correct, scored = self.sums.get(group.slot.category, [0, 0])
            self.sums[group.slot.category] = [correct + sum(group.correct), scored + len(group.correct)]
            self.num_groups += bool(group.correct)
            if group.raw_signal is not None:
                self.signal_sum, self.num_signals = self.signal_sum + group.raw_signal, self.num_signals + 1
        self.num_steps += 1
        if self.num_steps < STEPS_PER_EVAL:
            return False
        self.scores |= {name: correct / scored for name, (correct, scored) in self.sums.items() if scored}
        is_complete = self.num_groups > 0
        if is_complete:
            signal = self.signal_sum / self.num_signals if self.num_signals else None
            score = fmean(self.scores.values())  # exact: a resumed run has another order of categories
            self.history.append(WindowStats(score, self.num_groups, signal))
        self.num_steps = self.num_groups = self.num_signals = 0
        self.sums, self.signal_sum = {}, 0.0
        return is_complete

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> StageWindow:
        """Continue from a state."""
        return cls(**{**state, "history": [WindowStats(**one) for one in state["history"]]})


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
    score_sum: float = 0.0  # over those of these groups that have a score, as the squares
    score_squares: float = 0.0
    num_scores: int = 0
    window: StageWindow = field(default_factory=StageWindow)  # of this stage
    stop_reason: str | None = None  # a stop rule's, once it has ended the stage before its budget
    alarms: list[str] = field(default_factory=list)  # those that are on
    too_long: list[str] = field(default_factory=list)  # environments whose long prompts were reported, others with why
    # by the stage's environment ("" in flat mode): its own steps, in a row, without a signal; samples correct, scored
    silence: dict[str, list[int]] = field(default_factory=dict)
    intervened_after: int = 0  # the last stage after which it was decided what to do to the policy
    unmeasured: list[str] = field(default_factory=list)  # conditions of interventions without a value that were told
    guards: dict[str, dict[str, Any]] = field(default_factory=dict)  # what each remembers, see `numeric_guards`
    lr_share: float = 1.0  # what guards have left of the learning rate
    lr_share_of: float | None = None  # of which one
    guard_stop: str | None = None  # why a guard ends the run here
    num_unscorable_steps: int = 0  # the last steps, in a row, in which nothing could be scored
    has_warmup: bool | None = None  # the stage began with a fresh optimiser; None: an earlier version began it

    def forget_too_long(self, names: Collection[str]) -> None:
        """Have what is left out of these environments told again: their data has changed."""
        self.too_long = [told for told in self.too_long if told.partition(": ")[0] not in names]

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
    def awaits_intervention(self) -> bool:
        """The boundary between two stages is done; what is to be done to the policy there is still to be decided."""
        is_between = 0 < self.stage == self.num_boundaries - 1 and not self.is_finished
        return is_between and self.intervened_after < self.stage

    @property
    def is_finished(self) -> bool:
        """The last boundary is done."""
        return self.num_boundaries == self.num_stages + 1

    @property
    def num_steps(self) -> int:
        """Steps of the whole run, at most: stages that are over count as they were."""
        if self.stage_is_over:
            return self.step + (self.num_stages - self.stage) * self.steps_per_stage
        return self.num_planned_steps

    @property
    def num_planned_steps(self) -> int:
        """The same as planned when the step now done began: whether the stage ends with it was not known."""
        return self.step - self.stage_step + (self.num_stages - self.stage + 1) * self.steps_per_stage

    @property
    def stage_signal(self) -> tuple[float | None, int]:
        """Mean signal of the stage's own groups, and how many there were."""
        return (self.signal_sum / self.num_signals if self.num_signals else None), self.num_signals

    @property
    def stage_score(self) -> tuple[float | None, float]:
        """Mean score of the stage's own groups, and the sum of their squared distances from it."""
        if not self.num_scores:
            return None, 0.0
        mean = self.score_sum / self.num_scores
        return mean, max(0.0, self.score_squares - self.score_sum * mean)

    def begin_stage(self, pick: Pick | None, has_warmup: bool | None = None) -> None:
        """Begin the next stage on the environment the scheduler picked."""
        self.has_warmup = has_warmup
        self.stage, self.stage_step = self.stage + 1, 0
        self.pick, self.environment = pick, pick.arm if pick else None
        self.signal_sum, self.num_signals = 0.0, 0
        self.score_sum, self.score_squares, self.num_scores = 0.0, 0.0, 0
        self.window, self.stop_reason = StageWindow(), None
        if self.environment and self.environment not in self.visited:
            self.visited.append(self.environment)

    def begin_step(self) -> None:
        """Count a step."""
        self.step, self.stage_step = self.step + 1, self.stage_step + 1

    def take_back_step(self) -> None:
        """Count a step no more, as nothing was played in it."""
        self.step, self.stage_step = self.step - 1, self.stage_step - 1

    def end_step(self, groups: Sequence[PlayedGroup]) -> bool:
        """Take in what the step's groups earned, of the stage's own ones; whether that completed a window."""
        self.num_unscorable_steps = 0 if any(group.scored for group in groups) else self.num_unscorable_steps + 1
        own = [group for group in groups if group.slot.role == "main"]
        signals = [group.raw_signal for group in own if group.raw_signal is not None]
        self.signal_sum += sum(signals)
        self.num_signals += len(signals)
        self.add_scores([group.score for group in own if group.raw_signal is not None and group.score is not None])
        name, compared = self.environment or "", [group for group in own if group.has_spread is not None]
        if any(group.has_spread for group in compared):
            self.silence.pop(name, None)
        elif compared:
            correct, scored = (sum(of(group.correct) for group in compared) for of in (sum, len))
            before = self.silence.get(name, [0, 0, 0])
            self.silence[name] = [before[0] + 1, before[1] + correct, before[2] + scored]
        return self.window.add_step(own)

    def add_scores(self, scores: Sequence[float]) -> None:
        """Take in the mean scores of the stage's own groups, those with a signal."""
        self.score_sum += sum(scores)
        self.score_squares += sum(score**2 for score in scores)
        self.num_scores += len(scores)

    def end_boundary(self) -> None:
        """Count a boundary."""
        self.num_boundaries += 1

    def end_intervention(self) -> None:
        """Note that it was decided, and done."""
        self.intervened_after = self.stage

    def state(self) -> dict[str, Any]:
        """Everything but what the spec says, as JSON."""
        state = asdict(self)
        state["evals"] = state.pop("window")
        del state["num_stages"], state["steps_per_stage"]
        return state

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        for name, value in state.items():
            if name == "evals":
                self.window = StageWindow.from_state(value)
            else:
                setattr(self, name, Pick(**value) if name == "pick" and value else value)
