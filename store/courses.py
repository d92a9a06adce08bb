"""Runs with the course of what was measured after their stages: a handful of queries a ledger, however many runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from store.carryover import ENTROPY_FLOOR, Coverage, geometric_mean, ratio
from store.ledger.queries import Reading
from store.ledger.query_rows import RunRow, StudyRow
from store.records import ENDED

Course = Mapping[int, float | None]  # after stage -> value
Cells = Mapping[int, Mapping[str, float | None]]  # after stage -> environment -> value


@dataclass(frozen=True)
class RunCourse(RunRow):
    """A run, how far it means to go, and how it went."""

    planned_stages: int
    planned_steps: int  # at most: a stage may end early
    accuracy: Course  # held out, mean of the environments
    entropy: Course  # share of the entropy at the start, geometric mean of the environments
    end: str | None  # why it stopped or failed, where it did
    tracker: str | None  # MLflow's URI; "" for the home's own, None: MLflow has no record


@dataclass(frozen=True)
class Inventory:
    """What a home holds, as far as it could be looked at."""

    runs: Sequence[RunCourse]  # newest first
    studies: Mapping[str, StudyRow]  # by name
    problems: Sequence[str] = ()  # a sentence for everything that could not be read
    strays: Mapping[str, str | None] = field(default_factory=dict)  # runs whose folders are here and that the ledger
    # does not know, with their study if it does not know that either
    half_removed: Sequence[str] = ()  # runs that somebody began to remove


def courses(read: Reading, only: Collection[str] | None = None) -> list[RunCourse]:
    """Read the runs of a ledger, oldest first; `only` names those that are wanted."""
    runs = [run for run in read.runs() if only is None or run.name in only]
    specs, steps = read.all_specs(only), read.all_boundary_steps(only)
    runs = [run for run in runs if run.name in specs]  # one may have been removed meanwhile
    ends = read.all_last_events(ENDED, only)
    cells: dict[tuple[str, str], dict[int, dict[str, float | None]]] = defaultdict(lambda: defaultdict(dict))
    for cell in read.all_cells(("pass_1", "entropy_token"), only):
        cells[cell.run, cell.metric][cell.after_stage][cell.environment] = cell.value
    found = []
    for run in runs:
        curriculum = specs[run.name]["curriculum"]
        left = curriculum["stages"] - max(0, run.num_boundaries - 1)
        found.append(
            RunCourse(
                **vars(run),
                planned_stages=curriculum["stages"],
                planned_steps=max(steps.get(run.name, 0) + left * curriculum["stage"]["steps"], run.num_steps),
                accuracy=course_of_means(cells[run.name, "pass_1"]),
                entropy=_shares(cells[run.name, "entropy_token"]),
                end=ends.get(run.name),
                tracker=_tracker(specs[run.name].get("tracker")),
            )
        )
    return found


def course_of_means(cells: Cells) -> Course:
    """The mean of the environments; one that a boundary left out is there as it was measured last."""
    known = {stage: [value for value in row.values() if value is not None] for stage, row in _as_last_seen(cells)}
    return {stage: fmean(values) if values else None for stage, values in known.items()}


def _shares(cells: Cells) -> Course:
    """Every environment beside its start, where that is known; from its second look on, as none tells before."""
    coverage = Coverage.of([(stage, name) for stage, row in cells.items() for name in row])
    starts = {name: cells[start][name] for name in coverage.firsts if (start := coverage.start(name)) is not None}
    course, again = {}, set[str]()
    for stage, row in _as_last_seen(cells):
        again |= {name for name in cells[stage] if stage > coverage.firsts[name]}
        names = again if stage else row
        course[stage] = geometric_mean(ratio(row[name], starts.get(name), ENTROPY_FLOOR) for name in names)
    return course


def _as_last_seen(cells: Cells) -> Iterator[tuple[int, Mapping[str, float | None]]]:
    """All environments at every boundary, in order: a mean over those alone that it measured would jump with them."""
    seen: dict[str, float | None] = {}
    for stage in sorted(cells):
        seen = {**seen, **cells[stage]}
        yield stage, seen


def _tracker(section: Mapping[str, Any] | None) -> str | None:
    if section is None or "mlflow" not in (section.get("type", "mlflow"), *(section.get("also") or ())):
        return None
    return section.get("uri") or ""
