"""Guards on a step's numbers: what is compared with what, and what is done where a limit is passed.

Decided by what a step measured, after it is recorded: a resumed run meets the same numbers and does the same. What a
guard remembers, and what is left of the learning rate, is part of a run's position.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from orchestrator.errors import STOPPED_BY_GUARD
from orchestrator.progress import Progress
from orchestrator.spec import Spec
from orchestrator.spec.guard_options import OF_BATCHES, GuardOptions, Limit, parse_limit
from policies.learner import Learner
from policies.policy import weights_in
from store import checkpoints
from store.errors import CheckpointError
from store.records import GUARD, EventRecord, MetricRecord

FEWEST, MOST = 10, 50  # values of a number before it is compared with itself; of those that a median is of
REPEATED = "repeated_frac"  # measured only where a guard reads it: it looks at every token


@dataclass
class _Memory:
    """What a guard remembers from step to step. Survives JSON."""

    held: int = 0  # steps in a row
    is_told: bool = False  # and has not calmed down since
    fired: int = 0
    num_unmeasured: int | None = 0  # updates so far that told no such number; None: one has
    first: list[float] = field(default_factory=list)
    recent: list[float] = field(default_factory=list)

    def reference(self, limit: Limit) -> float | None:
        """What one unit of the limit is; None: not known yet."""
        if limit.reference is None:
            return 1.0
        values = self.first if limit.reference == "start" else self.recent
        if len(values) < FEWEST:
            return None
        return statistics.fmean(values) if limit.reference == "start" else statistics.median(values)

    def add(self, value: float) -> None:
        """Take in a value that was within the limit."""
        if len(self.first) < FEWEST:
            self.first.append(value)
        self.recent = [*self.recent, value][-MOST:]


@dataclass(frozen=True)
class Guard:
    """An entry of the spec's list."""

    options: GuardOptions
    limit: Limit

    @property
    def name(self) -> str:
        """By which its memory is found again."""
        return f"{self.options.when}: {self.options.action}"

    @property
    def is_before_updates(self) -> bool:
        """Whether it is asked before an update, and by the batch alone."""
        return self.options.action == "skip" and self.limit.metric in OF_BATCHES

    def passed(self, value: float, memory: _Memory) -> str | None:
        """Say how a value passes the limit; None where it does not, or the reference is not known yet."""
        unit, condition = memory.reference(self.limit), self.limit.condition
        if unit is None or unit <= 0 or not condition.holds(value / unit):
            return None
        if self.limit.reference is None:
            return f"{condition.subject} is {value:.4g}, {condition.sign} {condition.number:g}"
        whose = "its median" if self.limit.reference == "median" else "that of the start"
        return f"{condition.subject} is {value:.4g}, {condition.sign} {condition.number:g} times {whose}, {unit:.4g}"


class NumericGuards:
    """Looks at each step's numbers and does what the spec says. Holds nothing that a run's position does not."""

    def __init__(self, spec: Spec, learner: Learner, start_of_stage: Callable[[int], Path | None]) -> None:
        self.guards = [Guard(one, parse_limit(one.when)) for one in spec.guards.of]
        self.learner, self.start_of_stage = learner, start_of_stage
        self.reads_repeated = any(one.limit.metric == REPEATED for one in self.guards)
        self._due: list[tuple[Guard, str]] = []  # what `act` is to do
        self._refused: list[str] = []  # updates of the step that is under way

    def restore(self, at: Progress, told: Collection[str] | None = None) -> None:
        """Go on where a run stands; whatever stopped it may be mended by now, if anybody was told that it did.

        `told`: what the ledger was told; None: everything. A fork that says another learning rate begins with it.
        """
        if told is None or at.guard_stop in told:
            at.guard_stop = None
        if at.lr_share_of not in (None, self.learner.lr):
            at.lr_share, at.lr_share_of = 1.0, None
            for guard in self.guards:
                memory = _remembered(at, guard)
                memory.fired = 0
                _remember(at, guard, memory)
        if not any(one.options.action in ("lower", "roll_back") for one in self.guards):
            at.lr_share = 1.0
        self.learner.lr_share = at.lr_share

    def leaves_out(self, at: Progress, measure: Callable[[], Sequence[MetricRecord]]) -> str | None:
        """Say why the update of a batch is to be left out, by its numbers; None: it is made."""
        asked = [one for one in self.guards if one.is_before_updates]
        if not asked:
            return None
        numbers = measure()
        said = [self._look(one, at, numbers) for one in asked]  # each takes its value in
        return next((why for why in said if why), None)

    def refuses(self, at: Progress) -> Callable[[str, float], bool]:
        """Give what the learner asks of each update, by the name and value of its loss and of its gradient's norm."""
        asked = [one for one in self.guards if one.options.action == "skip" and not one.is_before_updates]
        self._refused = []

        def refuses(name: str, value: float) -> bool:
            for guard in asked:
                if guard.limit.metric == name and (why := guard.passed(value, _remembered(at, guard))):
                    self._refused.append(why)
                    return True
            return False

        return refuses

    def judge(self, at: Progress, numbers: Sequence[MetricRecord], left_out: str | None) -> list[EventRecord]:
        """Compare a step's numbers with all limits; what is to be done is kept for `act`."""
        self._due = []
        refused = [left_out] if left_out else list(dict.fromkeys(self._refused))
        self._refused = []
        said = [f"{why}: the update is left out" for why in refused]
        share = at.lr_share  # as `act` is going to lower it, one guard after the other
        for guard in self.guards:
            if guard.is_before_updates:
                continue
            if self._is_unmeasured(guard, at, numbers):
                said.append(
                    f"no step has measured {guard.limit.metric} so far, and `{guard.options.when}` cannot be met: "
                    "docs/metrics.md says which objectives and environments make this number"
                )
            why = self._look(guard, at, numbers)
            if why is None or guard.options.action == "skip":
                continue
            memory = _remembered(at, guard)
            if guard.options.action == "tell":
                said += [] if memory.is_told else [why]
                memory.is_told = True
            else:
                self._due.append((guard, why))
                memory.held, memory.fired = 0, memory.fired + 1
                share *= 1.0 if _stops(guard, memory) else guard.options.factor
                said.append(f"{why}: {_says(guard, memory, at.stage, share)}")
            _remember(at, guard, memory)
        return [EventRecord(GUARD, text) for text in said]

    @property
    def rolls_back(self) -> bool:
        """Whether `act` is going to read a checkpoint."""
        return any(guard.options.action == "roll_back" for guard, _ in self._due)

    def act(self, at: Progress) -> None:
        """Do what the last step's numbers ask for."""
        due, self._due = self._due, []
        for guard, why in due:
            options = guard.options
            if _stops(guard, _remembered(at, guard)):
                at.guard_stop = f"{STOPPED_BY_GUARD}: {why}"
                continue
            if options.action == "roll_back" and (why_not := self._roll_back(at)) is not None:
                start = f"the start of stage {at.stage}"
                at.guard_stop = f"{STOPPED_BY_GUARD}, as it cannot go back to {start}: {why_not}"
                continue
            at.lr_share, at.lr_share_of = at.lr_share * options.factor, self.learner.lr
        self.learner.lr_share = at.lr_share

    def _is_unmeasured(self, guard: Guard, at: Progress, numbers: Iterable[MetricRecord]) -> bool:
        """Whether a number has been missing from all steps for so long that a person should know; true once."""
        memory = _remembered(at, guard)
        if memory.num_unmeasured is None:
            return False
        measured = {one.name for one in numbers}
        if guard.limit.metric in measured:
            memory.num_unmeasured = None
        elif "grad_norm" in measured:  # a step without an update measures hardly anything
            memory.num_unmeasured += 1
        else:
            return False
        _remember(at, guard, memory)
        return memory.num_unmeasured == FEWEST

    def _look(self, guard: Guard, at: Progress, numbers: Iterable[MetricRecord]) -> str | None:
        """Take a step's value in; say how the limit was passed for long enough, or None."""
        condition, memory = guard.limit.condition, _remembered(at, guard)
        value = next(
            (
                one.value
                for one in numbers
                if one.name == condition.metric and one.environment == condition.environment and one.category is None
            ),
            None,
        )
        if value is None:  # this step says nothing about it
            return None
        why = guard.passed(value, memory)
        if why is None:
            memory.add(value)
            memory.held, memory.is_told = 0, False
        else:
            memory.held += 1
        _remember(at, guard, memory)
        if why is None or memory.held < guard.options.steps:
            return None
        return why if guard.options.steps == 1 else f"{why}, for {memory.held} steps"

    def _roll_back(self, at: Progress) -> str | None:
        """Take up the weights that the stage began with; why not, where their checkpoint is gone or damaged.

        Adam's moments led away from them and are forgotten.
        """
        folder = self.start_of_stage(at.stage)
        if folder is None:
            return "its checkpoint is gone"
        try:
            checkpoints.verify(folder.parent)
        except CheckpointError as damaged:
            return str(damaged)
        optimizer = self.learner.optimizer
        with torch.no_grad(), optimizer.whole_weights() as weights:
            then = weights_in(folder, self.learner.weights, self.learner.policy.model)
            for name, weight in then.items():
                weights[name].copy_(weight)
        optimizer.reset()
        self.learner.policy.version += 1  # engines get them
        return None


def _stops(guard: Guard, memory: _Memory) -> bool:
    """Whether a guard that was met ends the run."""
    return guard.options.action == "stop" or memory.fired > guard.options.most


def _says(guard: Guard, memory: _Memory, stage: int, lr_share: float) -> str:
    options = guard.options
    if options.action == "stop":
        return "the run stops"
    if _stops(guard, memory):
        return f"the run stops, after {options.action} {options.most} times"
    lowered = f"the learning rate is {lr_share:.3g} of the spec's from here on"
    if options.action == "lower":
        return lowered
    return f"it goes back to the weights with which stage {stage} began, with new moments; {lowered}"


def _remembered(at: Progress, guard: Guard) -> _Memory:
    return _Memory(**_plain(at.guards.get(guard.name, {})))


def _remember(at: Progress, guard: Guard, memory: _Memory) -> None:
    at.guards[guard.name] = vars(memory)


def _plain(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, list) else value for name, value in state.items()}
