"""Two runs compared: what they were told to do, field by field, and their courses, streamed in step.

Every moment of both is compared facet by facet as it comes. A facet is one thing that a moment has, as a map from a
place to what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from store.export.rows import Row, RunRows, open_rows
from store.ledger import Reading, digest
from store.ledger import tables as t
from store.metrics import INTERIM, METRICS
from store.plasticity import INTERVENED
from store.run_summary import Digests, digests, leaves
from store.secrets import values_without_logins
from store.sentences import what_is_missing

OWN = ("name",)  # of a spec: what makes it this run's, and no difference
COLUMNS = {  # of every stream, what is read of it
    "picks": digest.PICKS,
    "groups": digest.GROUPS,
    "metrics": digest.METRICS,
    "cells": (
        *("after_stage", "environment", "category", "metric", "split", "holdout"),
        *("value", "stderr", "num_items", "samples_per_item"),
    ),
    "network": ("after_stage", "metric", "layer", "value"),
    "probes": ("after_stage", "kind", "task", "seed", "step", "metric", "value"),
    "interventions": ("after_stage", "number", "kind", "params", "why"),
}
PROGRESS_EVERY = 1000  # steps

Entries = Mapping[Any, Any]  # place -> what is there
Rows = Sequence[Mapping[str, Any]]
Moment = dict[str, list[Row]]  # a stream's name -> its rows

_TIMES = sa.select(t.metric_def.c.metric_id).where(t.metric_def.c.metric_group == "time")
# at boundaries what is only measured there tells most
_IN_ORDER = sorted(METRICS.values(), key=lambda metric: metric.group != "measure")
_PLACE_OF_METRIC = {metric.name: place for place, metric in enumerate(_IN_ORDER)}


@dataclass(frozen=True)
class Field:
    """A field in which two runs differ; None: it is not there."""

    name: str  # dotted
    a: Any
    b: Any


@dataclass(frozen=True)
class DiffSide:
    """A run, where it is remembered and where its checkpoints are."""

    reading: Reading
    name: str
    folder: Path


@dataclass(frozen=True)
class Length:
    """How far a run is."""

    status: str
    num_steps: int
    num_boundaries: int

    @property
    def reached(self) -> tuple[int, int]:
        """Steps and boundaries done."""
        return self.num_steps, self.num_boundaries


@dataclass(frozen=True)
class Diff:
    """Two runs side by side."""

    a: str
    b: str
    is_equal: bool  # the same things were done and found, and the weights are the same, bit for bit
    spec: Sequence[Field]
    environments: Sequence[Field]  # versions
    host: Sequence[Field]
    first: Difference | None  # None: all that both have recorded is equal
    num_compared_steps: int
    num_different_steps: int
    num_compared_boundaries: int
    num_different_boundaries: int
    lengths: Sequence[Length]  # of A and B
    digests: Sequence[Digests | None] = ()  # of both, if nothing recorded differs; None: no whole checkpoint
    missing: Sequence[str | None] = (None, None)  # what the records of both lack


@dataclass(frozen=True)
class Facet:
    """One thing that a moment has: what is at which place."""

    name: str
    rows: str  # the stream that it is read from
    entries: Callable[[Rows], Entries]
    is_asked_for: bool = False  # only some runs measure it, and looking moves none: compared where both have it


@dataclass(frozen=True)
class Difference:
    """Where two runs part: the first place of the first facet that differs."""

    step: int  # steps done
    when: str  # "step 13", "before training", "stage 2", "after stage 2"
    facet: str
    place: Any
    a: Any  # None: not there
    b: Any
    others: Sequence[Any] = ()  # more places of the same facet
    same: Sequence[str] = ()  # facets of this moment that are equal, before it


def diff(a: DiffSide, b: DiffSide, tell: Callable[[str], None] = lambda words: None) -> Diff:
    """Compare two runs, of one ledger or of two. Reads both once, a step at a time."""
    sides = (a, b)
    runs = [side.reading.run(side.name) for side in sides]
    lengths = [Length(run.status, run.num_steps, run.num_boundaries) for run in runs]
    num_steps = min(length.num_steps for length in lengths)
    with open_rows(a.reading, a.name) as rows_a, open_rows(b.reading, b.name) as rows_b:
        step, num_different = compare_steps(steps(rows_a, num_steps), steps(rows_b, num_steps), tell)
        boundaries = compare_boundaries(sides, (rows_a, rows_b))
    stages = compare_stages(sides)
    found = [(one.step, order, one) for order, one in enumerate([step, *boundaries[:1], *stages[:1]]) if one]
    first = min(found, key=lambda one: one[:2])[2] if found else None
    is_done = first is None and lengths[0].reached == lengths[1].reached
    missing = [what_is_missing(side.reading.gaps(side.name)) for side in sides]
    hashes = []
    for side in sides if is_done and missing == [None, None] else ():
        tell(f"hashing {side.name}")
        hashes.append(digests(side.reading, side.name, side.folder))
    return Diff(
        a.name,
        b.name,
        is_equal=bool(hashes) and None not in hashes and hashes[0] == hashes[1],
        spec=different(*(side.reading.spec(side.name) for side in sides)),
        environments=different(*(versions(side.reading, side.name) for side in sides)),
        host=different(*(side.reading.host(side.name) for side in sides)),
        first=first,
        num_compared_steps=num_steps,
        num_different_steps=num_different,
        num_compared_boundaries=min(length.num_boundaries for length in lengths),
        num_different_boundaries=len(boundaries),
        lengths=lengths,
        digests=hashes,
        missing=missing,
    )


def different(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Field]:
    """List the fields of two nested maps that are not equal, in the order of the first map, then the second's own."""
    flat_a, flat_b = (dict(leaves(values_without_logins(data))) for data in (a, b))
    pairs = {name: (flat_a.get(name), flat_b.get(name)) for name in (flat_a | flat_b) if name not in OWN}
    return [Field(name, *pair) for name, pair in pairs.items() if pair[0] != pair[1]]


def versions(reading: Reading, run: str) -> dict[str, str]:
    """Give the versions of the environments that a run has measured, by name."""
    query = sa.select(t.environment.c.name, t.environment.c.version).select_from(t.with_names(t.eval_cell))
    query = query.where(t.eval_cell.c.run_id == reading.run_id(run)).distinct().order_by(t.environment.c.name)
    return dict(map(tuple, reading.fetch(query)))


# --- facets ------------------------------------------------------------------------------------------------


def _of_slots(*names: str) -> Callable[[Rows], Entries]:
    """Give these values of every slot; what a replay rule chose is beside what its environment's bandit did."""

    def place(row: Mapping[str, Any]) -> Any:
        return f"{row['slot']} of replay" if row.get("level") == "replay" else row["slot"]

    return lambda rows: {place(row): {name: row[name] for name in names} for row in rows}


def _of_samples(*names: str) -> Callable[[Rows], Entries]:
    """Give these values of every sample; the ledger has them as lists, one a group, in text."""
    return lambda rows: {
        (row["slot"], sample): dict(zip(names, values, strict=True))
        for row in rows
        for sample, values in enumerate(zip(*(t.read_entries(row[name]) for name in names), strict=True))
    }


def _of_metrics(is_interim: bool) -> Callable[[Rows], Entries]:
    """Give every metric, the whole batch's first: those of training, or of evaluations inside stages."""

    def entries(rows: Rows) -> Entries:
        found = {
            (row["metric"], row["environment"], row["category"]): (row["value"], row["n"])
            for row in rows
            if row["metric"].startswith(INTERIM) == is_interim
        }
        return dict(sorted(found.items(), key=lambda entry: _order(entry[0])))

    return entries


def _of_cells(*names: str, is_after: bool | None = None) -> Callable[[Rows], Entries]:
    """Give these values of every cell, or those before or after interventions: environments first, then categories."""

    def entries(rows: Rows) -> Entries:
        found = {
            (row["metric"], row["environment"], row["category"], row["split"]): tuple(row[n] for n in names)
            for row in rows
            if is_after is None or is_after == (row["split"] == INTERVENED)
        }
        return dict(sorted(found.items(), key=lambda entry: (_order(entry[0][:3]), entry[0][3])))

    return entries


def _of_key(key: Sequence[str], *names: str) -> Callable[[Rows], Entries]:
    """Give these values of every row, in the order of its key."""

    def entries(rows: Rows) -> Entries:
        found = {tuple(row[name] for name in key): {name: row[name] for name in names} for row in rows}
        return dict(sorted(found.items()))

    return entries


def _order(place: tuple[str, str | None, str | None]) -> tuple[int, int, str, str]:
    metric, environment, category = place
    depth = (environment is not None) + (category is not None)
    return depth, _PLACE_OF_METRIC.get(metric, len(METRICS)), environment or "", category or ""


IN_A_STEP = (
    Facet("picks", "picks", _of_slots("stage", "level", "role", "environment", "arm")),
    Facet("probabilities", "picks", _of_slots("environment", "arm", "level", "probability")),
    Facet("tasks", "groups", _of_slots("environment", "category", "task_index", "task_key")),
    Facet("replies", "groups", _of_samples("num_tokens", "finishes", "versions")),
    Facet("scores", "groups", _of_samples("scores", "correct", "reasons")),
    Facet("signals", "picks", _of_slots("environment", "arm", "level", "signal")),
    Facet("metrics", "metrics", _of_metrics(is_interim=False)),
    Facet("evaluations", "metrics", _of_metrics(is_interim=True), is_asked_for=True),
)
_MEASURED = ("value", "stderr", "num_items", "samples_per_item")
AT_A_BOUNDARY = (
    Facet("held-out tasks", "cells", _of_cells("holdout"), is_asked_for=True),
    Facet("measurements", "cells", _of_cells(*_MEASURED, is_after=False), is_asked_for=True),
    Facet("network", "network", _of_key(("metric", "layer"), "value"), is_asked_for=True),
    Facet("probes", "probes", _of_key(("kind", "task", "seed", "metric", "step"), "value"), is_asked_for=True),
    Facet("interventions", "interventions", _of_key(("number",), "kind", "params", "why")),
    Facet("measurements after interventions", "cells", _of_cells(*_MEASURED, is_after=True), is_asked_for=True),
)


def _compare(facets: Sequence[Facet], step: int, when: str, a: Moment, b: Moment) -> Difference | None:
    same: list[str] = []
    named = [
        {name: [dict(zip(COLUMNS[name], row, strict=True)) for row in rows] for name, rows in moment.items()}
        for moment in (a, b)
    ]
    for facet in facets:
        ours, theirs = (facet.entries(rows[facet.rows]) for rows in named)
        if facet.is_asked_for:
            ours, theirs = (
                {place: found for place, found in one.items() if place in other}
                for one, other in ((ours, theirs), (theirs, ours))
            )
        if ours != theirs:
            return _difference(step, when, facet.name, ours, theirs, same)
        same.append(facet.name)
    return None


def _difference(step: int, when: str, facet: str, a: Entries, b: Entries, same: Sequence[str] = ()) -> Difference:
    """Name the places in which two unequal facets differ, the first in full."""
    first, *others = [place for place in dict.fromkeys([*a, *b]) if a.get(place) != b.get(place)]
    return Difference(step, when, facet, first, a.get(first), b.get(first), others, same)


# --- moments -----------------------------------------------------------------------------------------------


def steps(rows: RunRows, num_steps: int) -> Iterator[Moment]:
    """Give what the ledger has of each step. Lists stay text: most steps need not be understood."""
    no_times = t.step_metric.c.metric_id.not_in(_TIMES)
    takers = {
        "picks": _taker(rows.of(t.pick, COLUMNS["picks"], t.pick.c.level.in_(("category", "flat", "replay")))),
        "groups": _taker(rows.of(t.task_group, COLUMNS["groups"])),
        "metrics": _taker(rows.of(t.step_metric, COLUMNS["metrics"], no_times)),
    }
    for step in range(1, num_steps + 1):
        yield {name: take(step) for name, take in takers.items()}


def compare_steps(
    a: Iterator[Moment], b: Iterator[Moment], tell: Callable[[str], None]
) -> tuple[Difference | None, int]:
    """Find the first step that differs, and count all that do, among those that both have."""
    first, count = None, 0
    for step, (ours, theirs) in enumerate(zip(a, b, strict=False), 1):
        if step % PROGRESS_EVERY == 0:
            tell(f"step {step:,}, {count:,} steps differ so far")
        if ours == theirs:
            continue
        found = _compare(IN_A_STEP, step, f"step {step}", ours, theirs)
        if found is not None:  # else only written in another order, as two ledgers may
            first, count = first or found, count + 1
    return first, count


def compare_boundaries(sides: Sequence[DiffSide], rows: Sequence[RunRows]) -> list[Difference]:
    """List the boundaries that differ, in order: when they came, how they measured, what they found."""
    ends = [_ends(side.reading, side.name) for side in sides]
    no_times = t.eval_cell.c.metric_id.not_in(_TIMES)
    takers = [
        {
            "cells": _taker(one.of(t.eval_cell, COLUMNS["cells"], no_times)),
            "network": _taker(one.of(t.network_cell, COLUMNS["network"])),
            "probes": _taker(one.of(t.probe_point, COLUMNS["probes"])),
            "interventions": _taker(one.of(t.intervention, COLUMNS["interventions"])),
        }
        for one in rows
    ]
    num_steps = [side.reading.run(side.name).num_steps for side in sides]
    found = []
    for after in sorted(ends[0].keys() | ends[1].keys()):
        moments: list[Moment] = [{name: take(after) for name, take in own.items()} for own in takers]
        a, b = (end.get(after) for end in ends)
        when = f"after stage {after}" if after else "before training"
        step = min(end["step"] for end in (a, b) if end)
        if any(end is None and done <= step for end, done in zip((a, b), num_steps, strict=True)):
            break  # a run that has not come so far
        if a != b:
            found.append(_difference(step, when, "stage's end", a or {}, b or {}))
        elif moments[0] != moments[1] and (different := _compare(AT_A_BOUNDARY, step, when, *moments)):
            found.append(different)
    return found


def _ends(reading: Reading, name: str) -> dict[int, dict[str, Any]]:
    reasons = {stage.stage: stage.stop_reason for stage in reading.stages(name)}
    signals = {pick.stage: pick.signal for pick in reading.stage_picks(name)}
    return {
        boundary.after_stage: {
            "step": boundary.step,
            "stop_reason": reasons.get(boundary.after_stage),
            "settings": dict(boundary.settings),
            "signal": signals.get(boundary.after_stage),
        }
        for boundary in reading.boundaries(name)
    }


def compare_stages(sides: Sequence[DiffSide]) -> list[Difference]:
    """List the stages that began differently, in order."""
    a, b = (_starts(side.reading, side.name) for side in sides)
    both = [(stage, a[stage], b[stage]) for stage in sorted(a.keys() & b.keys())]
    return [
        _difference(min(ours["start_step"], theirs["start_step"]), f"stage {stage}", "stage", ours, theirs)
        for stage, ours, theirs in both
        if ours != theirs
    ]


def _starts(reading: Reading, name: str) -> dict[int, dict[str, Any]]:
    probabilities = {pick.stage: pick.probability for pick in reading.stage_picks(name)}
    kept = ("environment", "start_step", "num_steps", "replay")
    return {
        stage.stage: {
            **{key: getattr(stage, key) for key in kept},
            "probability": probabilities.get(stage.stage),
        }
        for stage in reading.stages(name)
    }


def _taker(rows: Iterator[Row]) -> Callable[[int], list[Row]]:
    """Make a function that takes the rows up to a number in their first column, off a stream ordered by it."""
    waiting = next(rows, None)

    def take(until: int) -> list[Row]:
        nonlocal waiting
        taken = []
        while waiting is not None and waiting[0] <= until:
            taken.append(waiting)
            waiting = next(rows, None)
        return taken

    return take
