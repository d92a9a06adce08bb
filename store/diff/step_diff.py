"""The courses of two runs, streamed in step: every moment of both, compared as it comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from store.diff.facets import (
    AT_A_BOUNDARY,
    CELL,
    GROUP,
    IN_A_STEP,
    METRIC,
    PICK,
    Difference,
    compare,
    differing,
    read,
)
from store.export.rows import Row, RunRows
from store.ledger import Reading
from store.ledger import tables as t

Moment = dict[str, list[Row]]  # a stream's name -> its rows
TOLD_EVERY = 1000  # steps

_TIMES = sa.select(t.metric_def.c.metric_id).where(t.metric_def.c.metric_group == "time")
_COLUMNS = {"picks": PICK, "groups": GROUP, "metrics": METRIC, "cells": CELL}


def steps(rows: RunRows, num_steps: int) -> Iterator[Moment]:
    """Give what the ledger has of each step. JSON stays text: most steps need not be understood."""
    streams = {
        "picks": rows.of(t.pick, PICK, ["step", "stage", "level", "slot"], t.pick.c.level != "scheduler"),
        "groups": rows.of(t.task_group, GROUP, ["step", "slot"]),
        "metrics": rows.of(
            t.step_metric,
            METRIC,
            ["step", "metric_id", "environment_id", "category_id"],
            t.step_metric.c.metric_id.not_in(_TIMES),
        ),
    }
    takers = {name: _taker(stream) for name, stream in streams.items()}
    for step in range(1, num_steps + 1):
        yield {name: take(step) for name, take in takers.items()}


def compare_steps(
    a: Iterator[Moment], b: Iterator[Moment], tell: Callable[[str], None]
) -> tuple[Difference | None, int]:
    """Find the first step that differs, and count all that do, among those that both have."""
    first, count = None, 0
    for step, (ours, theirs) in enumerate(zip(a, b, strict=False), 1):
        if step % TOLD_EVERY == 0:
            tell(f"step {step:,}, {count:,} steps differ so far")
        if ours == theirs:
            continue
        found = compare(IN_A_STEP, step, f"step {step}", _read(ours), _read(theirs))
        if found is not None:  # else only written in another order, as two ledgers may
            first, count = first or found, count + 1
    return first, count


def compare_boundaries(
    readings: tuple[Reading, Reading], names: tuple[str, str], rows: tuple[RunRows, RunRows]
) -> list[Difference]:
    """List the boundaries that differ, in order: when they came, how they measured, what they found."""
    ends = [_ends(reading, name) for reading, name in zip(readings, names, strict=True)]
    takers = [_taker(_cells(one)) for one in rows]
    num_steps = [reading.run(name).num_steps for reading, name in zip(readings, names, strict=True)]
    found = []
    for after in sorted(ends[0].keys() | ends[1].keys()):
        cells = [{"cells": take(after)} for take in takers]
        a, b = (end.get(after) for end in ends)
        when = f"after stage {after}" if after else "before training"
        step = min(end["step"] for end in (a, b) if end)
        if any(end is None and done <= step for end, done in zip((a, b), num_steps, strict=True)):
            break  # a run that has not come so far
        different = None
        if a != b:
            different = differing(step, when, "stage's end", a or {}, b or {})
        elif cells[0] != cells[1]:
            different = compare(AT_A_BOUNDARY, step, when, *map(_read, cells))
        found += [different] if different else []
    return found


def compare_stages(readings: tuple[Reading, Reading], names: tuple[str, str]) -> list[Difference]:
    """List the stages that began differently, in order."""
    a, b = (_starts(reading, name) for reading, name in zip(readings, names, strict=True))
    return [
        differing(
            min(a[stage]["start_step"], b[stage]["start_step"]), f"stage {stage}", "stage", a[stage], b[stage]
        )
        for stage in sorted(a.keys() & b.keys())
        if a[stage] != b[stage]
    ]


def _starts(reading: Reading, name: str) -> dict[int, dict[str, Any]]:
    picks = {pick.stage: pick for pick in reading.stage_picks(name)}
    return {
        stage.stage: {
            "environment": stage.environment,
            "start_step": stage.start_step,
            "num_steps": stage.num_steps,
            "replay": stage.replay,
            "probability": picks[stage.stage].probability if stage.stage in picks else None,
        }
        for stage in reading.stages(name)
    }


def _ends(reading: Reading, name: str) -> dict[int, dict[str, Any]]:
    """Give how every boundary came about, and how it measured."""
    stages = {stage.stage: stage for stage in reading.stages(name)}
    picks = {pick.stage: pick for pick in reading.stage_picks(name)}
    return {
        boundary.after_stage: {
            "step": boundary.step,
            "stop_reason": stages[boundary.after_stage].stop_reason
            if boundary.after_stage in stages
            else None,
            "settings": dict(boundary.settings),
            "signal": picks[boundary.after_stage].signal if boundary.after_stage in picks else None,
        }
        for boundary in reading.boundaries(name)
    }


def _cells(rows: RunRows) -> Iterator[Row]:
    order = ["after_stage", "metric_id", "environment_id", "category_id", "split"]
    return rows.of(t.eval_cell, CELL, order, t.eval_cell.c.metric_id.not_in(_TIMES))


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


def _read(moment: Mapping[str, Sequence[Row]]) -> dict[str, list[dict[str, Any]]]:
    return {name: read(_COLUMNS[name], rows) for name, rows in moment.items()}
