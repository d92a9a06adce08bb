"""What a study will take, said before it begins: runs, steps, disk, and time as far as it was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from orchestrator.runs.dry_run import DryRun, make_plan, size_in_words
from orchestrator.spec import Spec
from orchestrator.studies.study import Study, StudyRun, StudySetting
from store.ledger.queries import Reading
from store.sentences import duration, num
from store.tracker.settings import config_hash

# The sections that `make_plan` reads.
PLANNED_BY = {"policy", "environments", "curriculum", "baseline", "step", "evaluate", "checkpoint", "sampler"}


@dataclass(frozen=True)
class MeasuredTime:
    """What runs of the past took, by the hash of their spec without name, seed and place."""

    seconds: Mapping[str, Sequence[float]]  # of whole runs, a list a hash
    steps: Mapping[str, int]  # of a run, by hash
    same: str = "finished runs of the same settings"  # what was measured, where it is a run's own setting
    other: str = "finished runs of other settings, by their steps"  # and where it is not

    def of(self, setting: StudySetting) -> tuple[float, str] | None:
        """Estimate a run's seconds and say from what; None: nothing was measured."""
        key = hash_of(setting.spec)
        twins = num_twins(setting.spec)
        if key in self.seconds:
            return twins * fmean(self.seconds[key]), self.same
        rates = [one / self.steps[key] for key, all_ in self.seconds.items() for one in all_]
        if not rates:
            return None
        return twins * fmean(rates) * num_steps(setting.spec), self.other


def pace(reading: Reading | None, study: Study) -> MeasuredTime:
    """Measure finished runs: those of the study, and any others that had the same settings."""
    if reading is None:
        return MeasuredTime({}, {})
    wanted = {hash_of(setting.spec) for setting in study.settings}
    seconds: dict[str, list[float]] = {}
    steps: dict[str, int] = {}
    for run in reading.runs():
        if run.status != "finished" or not run.num_steps:
            continue
        spec = reading.spec(run.name)
        key = config_hash(spec)
        if spec["resources"]["threads"] == 1 and (key in wanted or run.study == study.name):
            seconds.setdefault(key, []).append(seconds_of(reading, run.name))
            steps[key] = run.num_steps
    return MeasuredTime(seconds, steps)


def seconds_of(reading: Reading, name: str) -> float:
    """Seconds that a finished run took: from its first to its last moment, or its parts where it was interrupted."""
    run = reading.run(name)
    if run.ended_at is not None and not any(event.kind == "resumed" for event in reading.events(name)):
        span = datetime.fromisoformat(run.ended_at) - datetime.fromisoformat(run.created_at)
        return span.total_seconds()
    steps = sum(step.seconds for step in reading.steps(name))
    return steps + sum(boundary.seconds for boundary in reading.boundaries(name))


def hash_of(spec: Spec) -> str:
    """Hash a spec without name, seed and place, as the record in MLflow does."""
    return config_hash(spec.model_dump(mode="json", by_alias=True))


def num_steps(spec: Spec) -> int:
    """Steps of a run, at most; its twin has as many."""
    return spec.curriculum.stages * spec.curriculum.stage.steps


def num_twins(spec: Spec) -> int:
    """Count a run and its twin with the bandit of `baseline`, if it has one."""
    return 1 if spec.baseline is None else 2


@dataclass(frozen=True)
class Cost:
    """A study told before it begins."""

    num_runs: int
    num_left: int  # not finished yet
    num_steps: int  # of the runs that are left, twins included
    num_evaluations: int
    bytes: int | None  # None: the size of a model is not known here
    free_bytes: int
    seconds: float | None  # for what is left, by `workers` at a time; None: nothing was measured yet
    measured_on: str | None
    workers: int
    notes: tuple[str, ...]  # warnings of objectives, and what there is to know of data

    def facts(self) -> dict[str, Any]:
        """As data."""
        return asdict(self)

    def lines(self) -> list[str]:
        """In words."""
        of = "" if self.num_left == self.num_runs else f" of {self.num_runs}"
        return [
            f"to do: {self.num_left:,}{of} runs, {self.workers} at a time; {self.num_steps:,} steps, "
            f"{num(self.num_evaluations, 'evaluation')}",
            self._disk(),
            self._time(),
            *self.notes,
        ]

    def _disk(self) -> str:
        free = f"{size_in_words(self.free_bytes)} free"
        if self.bytes is None:
            return f"disk: not known, as the model's configuration is not here; {free}"
        room = "" if self.bytes <= self.free_bytes else " (NOT ENOUGH)"
        return f"disk: about {size_in_words(self.bytes)}; {free}{room}"

    def _time(self) -> str:
        if not self.num_left:
            return "time: nothing is left to do"
        if self.seconds is None:
            return "time: known once a first run is finished; --dry-run --rehearse measures it beforehand"
        return f"time: about {duration(self.seconds)}, measured on {self.measured_on}"


def cost_of(study: Study, left: Sequence[StudyRun], measured: MeasuredTime, workers: int, home: Path) -> Cost:
    """Work out what the runs that are left will take. Builds the environments; reads no weights."""
    plans = _plans(study, home)
    each = [plans[run.setting.label] for run in left]
    sizes = [_bytes(plan) for plan in each]
    seconds, measured_on = left_s([(run, 0.0) for run in left], measured, workers)
    one = next(iter(plans.values()))
    return Cost(
        num_runs=len(study.runs),
        num_left=len(left),
        num_steps=sum(plan.steps for plan in each),
        num_evaluations=sum(
            num_twins(run.setting.spec) * (run.setting.spec.curriculum.stages + 1) for run in left
        ),
        bytes=None if None in sizes else sum(size for size in sizes if size is not None),
        free_bytes=one.free_bytes,
        seconds=seconds,
        measured_on=measured_on,
        workers=workers,
        notes=tuple(dict.fromkeys(note for plan in plans.values() for note in _notes(plan))),
    )


def left_s(
    left: Sequence[tuple[StudyRun, float]], measured: MeasuredTime, workers: int
) -> tuple[float | None, str | None]:
    """Estimate the seconds until runs are done, each given with the share of it that is done; and from what."""
    known = [(measured.of(run.setting), done) for run, done in left]
    found = [(estimate, done) for estimate, done in known if estimate is not None]
    if len(found) < len(known) or not found:
        return None, None
    seconds = [estimate[0] * (1 - done) for estimate, done in found]
    sources = dict.fromkeys(estimate[1] for estimate, _ in found)
    return max(sum(seconds) / workers, *seconds, 0.0), " and ".join(sources)


def _plans(study: Study, home: Path) -> dict[str, DryRun]:
    """Plan a run of every setting; what settings share is worked out once."""
    plans: dict[str, DryRun] = {}
    by_label: dict[str, DryRun] = {}
    for setting in study.settings:
        sections = setting.spec.model_dump(mode="json", include=PLANNED_BY)
        key = json.dumps(sections, sort_keys=True) + repr(setting.spec.warnings())
        plans[key] = by_label[setting.label] = plans.get(key) or make_plan(setting.spec, home)
    return by_label


def _bytes(plan: DryRun) -> int | None:
    if plan.checkpoint_bytes is None:
        return None
    return plan.checkpoint_bytes * plan.num_checkpoints + plan.ledger_bytes


def _notes(plan: DryRun) -> list[str]:
    left_out = [
        f"left out: {one.num_rows:,} rows of {one.environment} cannot be used" for one in plan.left_out
    ]
    remarks = [f"note: {text}" for text in plan.remarks]
    return [*left_out, *remarks, *(f"warning: {text}" for text in plan.warnings)]
