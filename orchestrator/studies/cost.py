"""What a study will take, said before it begins: runs, steps, disk, and time as far as it was measured.

A rehearsal measures the time beforehand: the first setting for a few steps, aside.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

from orchestrator.callbacks import Callback
from orchestrator.runs.dry_run import DryRun, make_plan, num_interim
from orchestrator.spec import Spec, load_spec
from orchestrator.studies.study import Study, StudyRun, StudySetting
from store.home import sqlite_url
from store.ledger import Ledger
from store.ledger.queries import Reading
from store.sentences import duration, num, size_in_words
from store.tracker.names import config_hash

# The sections that `make_plan` reads.
PLANNED_BY = {"policy", "environments", "curriculum", "baseline", "step", "evaluate", "checkpoint", "sampler"}
STEPS = 10  # of a rehearsal
ASIDE: dict[str, Any] = {"name": "rehearsal", "tracker": {"type": "none"}, "ledger": {}, "baseline": None}


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
    steps += reading.sums(name, ["seconds_evaluate"]).get("seconds_evaluate", 0.0)
    return steps + sum(boundary.seconds for boundary in reading.boundaries(name))


def hash_of(spec: Spec) -> str:
    """Hash a spec without name, seed and place, as the record in MLflow does."""
    return config_hash(spec.model_dump(mode="json", by_alias=True))


def num_steps(spec: Spec) -> int:
    """Steps of a run, at most; its twin has as many."""
    return spec.curriculum.stages * spec.curriculum.stage.steps


def num_twins(spec: Spec) -> int:
    """Count a run and its twin, if it has one: about as much again."""
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

    def lines(self) -> list[str]:
        """In words."""
        of = "" if self.num_left == self.num_runs else f" of {self.num_runs}"
        disk = "disk: not known, as the model's configuration is not here"
        if self.bytes is not None:
            disk = f"disk: about {size_in_words(self.bytes)}"
        room = "" if self.bytes is None or self.bytes <= self.free_bytes else " (NOT ENOUGH)"
        left = "known once a first run is finished; --dry-run --rehearse measures it beforehand"
        if not self.num_left:
            left = "nothing is left to do"
        elif self.seconds is not None:
            left = f"about {duration(self.seconds)}, measured on {self.measured_on}"
        return [
            f"to do: {self.num_left:,}{of} runs, {self.workers} at a time; {self.num_steps:,} steps, "
            f"{num(self.num_evaluations, 'evaluation')}",
            f"{disk}; {size_in_words(self.free_bytes)} free{room}",
            f"time: {left}",
            *self.notes,
        ]


def cost_of(study: Study, left: Sequence[StudyRun], measured: MeasuredTime, workers: int, home: Path) -> Cost:
    """Work out what the runs that are left will take. Builds the environments; reads no weights."""
    plans: dict[str, DryRun] = {}  # what settings share is worked out once
    by_label: dict[str, DryRun] = {}
    for setting in study.settings:
        sections = setting.spec.model_dump(mode="json", include=PLANNED_BY)
        key = json.dumps(sections, sort_keys=True) + repr(setting.spec.warnings())
        if key not in plans:
            plans[key] = make_plan(setting.spec, home)
        by_label[setting.label] = plans[key]
    each, specs = [by_label[run.setting.label] for run in left], [run.setting.spec for run in left]
    sizes = [plan.saved_bytes + plan.ledger_bytes for plan in each if plan.saved_bytes is not None]
    seconds, measured_on = left_s([(run, 0.0) for run in left], measured, workers)
    notes = [
        note
        for plan in plans.values()
        for note in (
            *(f"left out: {one.num_rows:,} rows of {one.environment} cannot be used" for one in plan.left_out),
            *(f"note: {text}" for text in plan.remarks),
            *(f"warning: {text}" for text in plan.warnings),
        )
    ]
    return Cost(
        num_runs=len(study.runs),
        num_left=len(left),
        num_steps=sum(plan.steps for plan in each),
        num_evaluations=sum(num_twins(spec) * (spec.curriculum.stages + 1 + num_interim(spec)) for spec in specs),
        bytes=None if len(sizes) < len(each) else sum(sizes),
        free_bytes=next(iter(plans.values())).free_bytes,
        seconds=seconds,
        measured_on=measured_on,
        workers=workers,
        notes=tuple(dict.fromkeys(notes)),
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


class _Clock(Callback):
    def __init__(self) -> None:
        self.begun_at: float | None = None
        self.warm_start_s = 0.0

    def phase(self, text: str) -> None:
        self.begun_at = time.monotonic()

    def warm_start(self, batch: int, num_batches: int, loss: float) -> None:
        assert self.begun_at is not None
        self.warm_start_s = time.monotonic() - self.begun_at


def rehearse(study: Study) -> MeasuredTime:
    """Run the study's first setting and seed for ten steps in a home that is then deleted; nobody else hears of it.

    The estimate of a whole run: its warm start, its first evaluation for every boundary, its mean step for every step,
    and for every evaluation inside a stage the mean one, or, where none was reached, the first evaluation's share.
    Early steps may be slower than later ones, where answers become shorter, or faster, where they become longer.
    """
    from orchestrator.runs.api import run

    planned = study.runs[0]
    plain = planned.spec.model_dump(mode="json", by_alias=True)
    plain["checkpoint"] |= {"copy_to": None}
    plain["guards"] |= {"webhook": None}
    spec = load_spec({**plain, **ASIDE})
    clock = _Clock()
    with TemporaryDirectory(prefix="evergreen-rehearsal-") as home:
        outcome = run(spec, home=home, until_step=min(STEPS, num_steps(spec)), watcher=clock)
        with Ledger.open(sqlite_url(Path(home) / "evergreen.db"), create=False) as ledger:
            step_s = fmean(step.seconds for step in ledger.reading.steps(outcome.name))
            boundary_s = fmean(boundary.seconds for boundary in ledger.reading.boundaries(outcome.name))
            found = [row.value or 0.0 for row in ledger.reading.series(outcome.name, "seconds_evaluate")]
    is_all = spec.evaluate.every_on == "all" or spec.curriculum.mode == "flat"
    inside_s = fmean(found) if found else boundary_s / (1 if is_all else len(spec.environments))
    seconds = clock.warm_start_s + boundary_s * (spec.curriculum.stages + 1) + step_s * num_steps(spec)
    seconds += inside_s * num_interim(spec)
    key = hash_of(planned.setting.spec)
    measured_on = f"a rehearsal of {STEPS} steps"
    return MeasuredTime({key: [seconds]}, {key: num_steps(spec)}, measured_on, measured_on)
