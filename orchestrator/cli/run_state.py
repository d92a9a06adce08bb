"""One moment of a run, as the live view shows it: frozen facts, no clock, no terminal.

A `Course` hears what a watcher hears, from the trainer or read again from the ledger, and gives a `RunState` of it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from orchestrator.callbacks import Callback
from orchestrator.progress import Progress
from orchestrator.runs.catalog import SPEC_FILE
from store.records import EVERYTHING, ArmRecord, BoundaryRecord, CellRecord, StepRecord
from store.run_summary import PARTS
from store.sentences import number

WINDOW = 10  # steps that reward, entropy and speed are averaged over
METRICS = ("reward", "entropy_token", *(f"seconds_{part}" for part in PARTS))  # read of the whole batch


@dataclass(frozen=True)
class Outline:
    """What the spec says of a run's length."""

    num_stages: int
    steps_per_stage: int
    may_end_early: bool  # there are stop rules, so a stage has at most so many steps

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> Outline:
        """Read it from a resolved spec's sections."""
        curriculum = spec["curriculum"]
        stage = curriculum["stage"]
        return cls(curriculum["stages"], stage["steps"], bool(stage.get("stop")))


@dataclass(frozen=True)
class Phase:
    """Something that takes a while, outside of steps."""

    text: str
    done: int = 0
    total: int = 0  # 0: not known


@dataclass(frozen=True)
class ArmState:
    """What may be picked next."""

    name: str
    probability: float


@dataclass(frozen=True)
class Accuracy:
    """An environment's held-out accuracy at the last boundary."""

    environment: str
    value: float | None
    change: float | None  # since before training; None: not comparable, or nothing was trained yet
    closed: bool  # measured on its own tasks


@dataclass(frozen=True)
class RunState:
    """The facts of one moment. None: not known yet."""

    name: str = ""
    outline: Outline = Outline(0, 0, False)
    phase: Phase | None = None  # None: steps are being done
    stage: int = 0  # 0: none begun
    environment: str | None = None  # None before the first stage and in flat mode
    stage_step: int = 0
    step: int = 0
    steps_left: int = 0  # at most
    arms: tuple[ArmState, ...] = ()  # of the environment's bandit, or of all; by name
    schedule: tuple[ArmState, ...] = ()  # environments, when the scheduler learns; by name
    reward: float | None = None  # of the stage's last steps, all that was played in them
    entropy: float | None = None  # nats a token, of the same
    after_stage: int | None = None  # the boundary of the accuracies
    accuracies: tuple[Accuracy, ...] = ()
    step_s: float | None = None
    shares: tuple[tuple[str, float], ...] = ()  # of a step's time, by part
    left_s: float | None = None  # at most, for steps and boundaries
    decision: str | None = None  # the last, in words
    event: str | None = None  # the last incident, in words


@dataclass(frozen=True)
class _Recent:
    stage: int
    seconds: float
    metrics: dict[str, float | None]


class Course(Callback):
    """Hears a run's course and keeps what a snapshot needs."""

    def __init__(self) -> None:
        self._now = RunState()  # what was heard as it is; the rest is worked out for a snapshot
        self._boundary: BoundaryRecord | None = None  # the last
        self._first: dict[str, float | None] = {}  # accuracy before training
        self._boundary_seconds: list[float] = []
        self._arms: Sequence[ArmRecord] = ()
        self._recent: deque[_Recent] = deque(maxlen=WINDOW)

    def at_step(self, step: int) -> None:
        """What is heard next happened at this step."""
        self._set(step=step)

    def begin(self, name: str, folder: str) -> None:
        spec = yaml.safe_load((Path(folder) / SPEC_FILE).read_text())
        self._set(name=name, outline=Outline.of(spec))

    def phase(self, text: str) -> None:
        self._set(phase=Phase(text))

    def warm_start(self, batch: int, num_batches: int, loss: float) -> None:
        self._set(phase=Phase(f"warm start, loss {number(loss)}", batch, num_batches))

    def measuring(self, text: str, done: int, total: int) -> None:
        self._set(phase=Phase(text, done, total))

    def stage(self, at: Progress) -> None:
        self._move(at)

    def step(self, at: Progress, record: StepRecord) -> None:
        self._move(at)
        pooled = {m.name: m.value for m in record.metrics if m.environment is None and m.name in METRICS}
        self._recent.append(_Recent(at.stage, record.seconds, pooled))
        self._arms = record.arms

    def boundary(self, at: Progress, record: BoundaryRecord) -> None:
        self._set(phase=None, step=record.step, after_stage=record.after_stage)
        self._boundary = record
        self._boundary_seconds.append(record.seconds)
        if record.after_stage == 0:
            self._first = {cell.environment: cell.value for cell in accuracies(record)}

    def decision(self, texts: Sequence[str]) -> None:
        if texts:
            self._set(decision=texts[-1])

    def event(self, texts: Sequence[str]) -> None:
        if texts:
            self._set(event=f"step {self._now.step}: {texts[-1]}" if self._now.step else texts[-1])

    def snapshot(self) -> RunState:
        """The facts of this moment."""
        now = self._now
        last = [recent for recent in self._recent if recent.stage == now.stage]
        step_s = fmean(recent.seconds for recent in self._recent) if self._recent else None
        learns = any(arm.bandit == EVERYTHING and arm.value is not None for arm in self._arms)
        sums = {part: sum(recent.metrics.get(f"seconds_{part}") or 0.0 for recent in self._recent) for part in PARTS}
        total = sum(sums.values())
        after = -1 if now.after_stage is None else now.after_stage
        num_stages, per_stage = now.outline.num_stages, now.outline.steps_per_stage
        is_open = now.stage > max(0, after)  # a stage has no steps left once its boundary was measured
        steps_left = (per_stage - now.stage_step) * is_open + (num_stages - now.stage) * per_stage
        left_s = None
        if step_s is not None:
            boundary_s = fmean(self._boundary_seconds) if self._boundary_seconds else 0.0
            left_s = step_s * steps_left + boundary_s * (num_stages - max(after, now.stage - 1))
        return replace(
            now,
            steps_left=steps_left,
            arms=self._arms_of(now.environment or EVERYTHING),
            # the scheduler's arms, if it keeps an estimate of any
            schedule=self._arms_of(EVERYTHING) if learns and now.environment is not None else (),
            reward=_mean(last, "reward"),
            entropy=_mean(last, "entropy_token"),
            accuracies=self._accuracies(),
            step_s=step_s,
            shares=tuple((part, seconds / total) for part, seconds in sums.items()) if total else (),
            left_s=left_s,
        )

    def _set(self, **facts: Any) -> None:
        self._now = replace(self._now, **facts)

    def _move(self, at: Progress) -> None:
        """Stand where a run stands: its progress is a moving thing, so its numbers are copied."""
        where = {"environment": at.environment, "stage": at.stage, "stage_step": at.stage_step}
        self._set(phase=None, step=at.step, **where)

    def _arms_of(self, bandit: str) -> tuple[ArmState, ...]:
        arms = (ArmState(arm.arm, arm.probability) for arm in self._arms if arm.bandit == bandit)
        return tuple(sorted(arms, key=lambda arm: _natural(arm.name)))

    def _accuracies(self) -> tuple[Accuracy, ...]:
        if self._boundary is None:
            return ()
        found = []
        for cell in sorted(accuracies(self._boundary), key=lambda cell: _natural(cell.environment)):
            before, change = self._first.get(cell.environment), None
            if self._boundary.after_stage and before is not None and cell.value is not None:
                change = cell.value - before
            found.append(Accuracy(cell.environment, cell.value, change, cell.split == "own"))
        return tuple(found)


def accuracies(record: BoundaryRecord) -> list[CellRecord]:
    """What a boundary says of every environment as a whole; never what only a scheduler looks at."""
    return [
        cell for cell in record.cells if cell.category is None and cell.metric == "pass_1" and cell.split != "select"
    ]


def _mean(recent: Sequence[_Recent], metric: str) -> float | None:
    values = [value for one in recent if (value := one.metrics.get(metric)) is not None]
    return fmean(values) if values else None


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Sort 4 before 10."""
    parts = re.split("([0-9]+)", name)
    return [(i % 2 == 0, len(part.lstrip("0")) if i % 2 else 0, part) for i, part in enumerate(parts)]
