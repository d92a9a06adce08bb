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
from store.carryover import ENTROPY_FLOOR, difference, ratio
from store.metrics import INTERIM
from store.records import EVERYTHING, ArmRecord, BoundaryRecord, StepRecord
from store.run_summary import PARTS
from store.sentences import number

WINDOW = 10  # steps that reward, entropy and speed are averaged over
TRAINED = ("reward", "entropy_token")  # read of the stage's environment; of the whole batch in flat mode
TIMES = (*(f"seconds_{part}" for part in PARTS), "seconds_evaluate")  # read of the whole batch
METRICS = (*TRAINED, *TIMES)
MEASURED = ("pass_1", "entropy_token")  # on held-out tasks


@dataclass(frozen=True)
class Outline:
    """What the spec says of a run's length."""

    num_stages: int
    steps_per_stage: int
    may_end_early: bool  # there are stop rules, so a stage has at most so many steps
    every: int = 0  # steps between two evaluations inside a stage; 0: there are none

    @property
    def looks_per_stage(self) -> int:
        """Evaluations inside a stage, at most."""
        return (self.steps_per_stage - 1) // self.every if self.every else 0

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> Outline:
        """Read it from a resolved spec's sections."""
        curriculum = spec["curriculum"]
        stage = curriculum["stage"]
        every = spec.get("evaluate", {}).get("every", 0)
        return cls(curriculum["stages"], stage["steps"], bool(stage.get("stop")), every)


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
class Standing:
    """What an environment was last measured to be, on held-out tasks."""

    environment: str
    accuracy: float | None
    change: float | None  # since before training; None: not comparable, or nothing was trained yet
    closed: bool  # measured on its own tasks
    entropy: float | None = None  # nats a token
    left: float | None = None  # share of the entropy before training; None as for `change`
    step: int | None = None  # of an evaluation inside a stage; None: at the last boundary


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
    reward: float | None = None  # of the stage's environment in its last steps; in flat mode of all
    entropy: float | None = None  # nats a token, of the same
    after_stage: int | None = None  # the last boundary
    standings: tuple[Standing, ...] = ()
    step_s: float | None = None
    shares: tuple[tuple[str, float], ...] = ()  # of a step's time, by part
    left_s: float | None = None  # at most, for steps and boundaries
    decision: str | None = None  # the last, in words
    event: str | None = None  # the last incident, in words
    num_recent: int = 0  # steps that reward and entropy are the mean of


@dataclass(frozen=True)
class _Recent:
    stage: int
    seconds: float
    times: dict[str, float | None]  # of the whole batch
    trained: dict[str, float | None]  # of the stage's environment


class Course(Callback):
    """Hears a run's course and keeps what a snapshot needs."""

    def __init__(self) -> None:
        self._now = RunState()  # what was heard as it is; the rest is worked out for a snapshot
        self._boundary: BoundaryRecord | None = None  # the last
        # by environment and metric: before training, and inside stages since the last boundary, with their step
        self._first: dict[tuple[str, str], float | None] = {}
        self._inside: dict[tuple[str, str], tuple[int, float | None]] = {}
        self._boundary_seconds: list[float] = []
        self._inside_seconds: list[float] = []
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
        wholes = [m for m in record.metrics if m.category is None]
        times = {m.name: m.value for m in wholes if m.environment is None and m.name in TIMES}
        trained = {m.name: m.value for m in wholes if m.environment == at.environment and m.name in TRAINED}
        self._recent.append(_Recent(at.stage, record.seconds, times, trained))
        self._arms = record.arms
        self._inside |= {place: (record.step, value) for place, value in interim(record).items()}
        if (seconds := times.get("seconds_evaluate")) is not None:
            self._inside_seconds.append(seconds)

    def boundary(self, at: Progress, record: BoundaryRecord) -> None:
        self._set(phase=None, step=record.step, after_stage=record.after_stage)
        self._boundary, self._inside = record, {}
        self._boundary_seconds.append(record.seconds)
        if record.after_stage == 0:
            self._first = measured(record)

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
        sums = {part: sum(recent.times.get(f"seconds_{part}") or 0.0 for recent in self._recent) for part in PARTS}
        total = sum(sums.values())
        after = -1 if now.after_stage is None else now.after_stage
        num_stages, per_stage = now.outline.num_stages, now.outline.steps_per_stage
        is_open = now.stage > max(0, after)  # a stage has no steps left once its boundary was measured
        steps_left = (per_stage - now.stage_step) * is_open + (num_stages - now.stage) * per_stage
        left_s = None
        if step_s is not None:
            boundary_s = fmean(self._boundary_seconds) if self._boundary_seconds else 0.0
            left_s = step_s * steps_left + boundary_s * (num_stages - max(after, now.stage - 1))
            looks = now.outline.looks_per_stage
            done = min(looks, now.stage_step // now.outline.every) if looks else 0
            looks_left = (looks - done) * is_open + (num_stages - now.stage) * looks
            left_s += looks_left * (fmean(self._inside_seconds) if self._inside_seconds else 0.0)
        return replace(
            now,
            steps_left=steps_left,
            arms=self._arms_of(now.environment or EVERYTHING),
            # the scheduler's arms, if it keeps an estimate of any
            schedule=self._arms_of(EVERYTHING) if learns and now.environment is not None else (),
            reward=_mean(last, "reward"),
            entropy=_mean(last, "entropy_token"),
            num_recent=len(last),
            standings=self._standings(),
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

    def _standings(self) -> tuple[Standing, ...]:
        """Every environment as the last boundary found it, or an evaluation inside the stage since."""
        if self._boundary is None:
            return ()
        now, own = measured(self._boundary), {cell.environment for cell in self._boundary.cells if cell.split == "own"}
        found = []
        for name in sorted({name for name, _ in now}, key=_natural):
            values, step = {metric: now.get((name, metric)) for metric in MEASURED}, None
            for metric in MEASURED:
                if (name, metric) in self._inside:
                    step, values[metric] = self._inside[name, metric]
            before = {metric: self._first.get((name, metric)) for metric in MEASURED}
            is_later = self._boundary.after_stage > 0 or step is not None
            accuracy, entropy = (values[metric] for metric in MEASURED)
            change = difference(before["pass_1"], accuracy) if is_later else None
            left = ratio(entropy, before["entropy_token"], ENTROPY_FLOOR) if is_later else None
            found.append(Standing(name, accuracy, change, name in own, entropy, left, step))
        return tuple(found)


def measured(record: BoundaryRecord) -> dict[tuple[str, str], float | None]:
    """What a boundary says of environments as wholes, by name and metric; never what only a scheduler looks at."""
    return {
        (cell.environment, cell.metric): cell.value
        for cell in record.cells
        if cell.category is None and cell.metric in MEASURED and cell.split != "select"
    }


def interim(record: StepRecord) -> dict[tuple[str, str], float | None]:
    """What an evaluation inside the stage says at a step, in the same way; nothing where there was none."""
    return {
        (one.environment, one.name.removeprefix(INTERIM)): one.value
        for one in record.metrics
        if one.environment is not None and one.category is None and one.name.startswith(INTERIM)
    }


def _mean(recent: Sequence[_Recent], metric: str) -> float | None:
    values = [value for one in recent if (value := one.trained.get(metric)) is not None]
    return fmean(values) if values else None


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Sort 4 before 10."""
    parts = re.split("([0-9]+)", name)
    return [(i % 2 == 0, len(part.lstrip("0")) if i % 2 else 0, part) for i, part in enumerate(parts)]
