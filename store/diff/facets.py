"""In what two moments of two runs can differ: facets, each a map from a place to what is there."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from store.export.rows import Row
from store.metrics import METRICS

Entries = Mapping[Any, Any]  # place -> what is there
PICK = ("step", "stage", "level", "slot", "role", "environment", "arm", "probability", "signal")
GROUP = (
    *("step", "slot", "environment", "category", "task_key", "task_index", "role"),
    *("versions", "num_tokens", "finishes", "scores", "correct", "reasons"),
)
METRIC = ("step", "metric", "environment", "category", "value", "n")
CELL = (
    *("after_stage", "environment", "category", "metric", "split", "holdout"),
    *("value", "stderr", "num_items", "samples_per_item"),
)

# at boundaries what is only measured there tells most
_METRIC_ORDER = {
    name: place
    for place, name in enumerate(sorted(METRICS, key=lambda name: METRICS[name].group != "measure"))
}


@dataclass(frozen=True)
class Facet:
    """One thing that a moment has: what is at which place."""

    name: str
    rows: str  # the stream that it is read from
    entries: Callable[[Sequence[Mapping[str, Any]]], Entries]


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
    same: Sequence[str] = field(default=())  # facets of this moment that are equal, before it


def compare(facets: Sequence[Facet], step: int, when: str, a: Any, b: Any) -> Difference | None:
    """Find the first facet in which two moments differ. They are maps from a stream's name to its rows."""
    same: list[str] = []
    for facet in facets:
        ours, theirs = facet.entries(a[facet.rows]), facet.entries(b[facet.rows])
        if ours != theirs:
            return differing(step, when, facet.name, ours, theirs, same)
        same.append(facet.name)
    return None


def differing(
    step: int, when: str, facet: str, a: Entries, b: Entries, same: Sequence[str] = ()
) -> Difference:
    """Name the places in which two unequal facets differ, the first in full."""
    first, *others = [place for place in dict.fromkeys([*a, *b]) if a.get(place) != b.get(place)]
    return Difference(step, when, facet, first, a.get(first), b.get(first), others, list(same))


def read(columns: Sequence[str], rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Name the values of rows."""
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _of(*names: str) -> Callable[[Sequence[Mapping[str, Any]]], Entries]:
    """Give these values of every slot."""
    return lambda rows: {row["slot"]: {name: row[name] for name in names} for row in rows}


def _of_samples(*names: str) -> Callable[[Sequence[Mapping[str, Any]]], Entries]:
    """Give these values of every sample; the ledger has them as lists, one a group, in JSON."""

    def entries(rows: Sequence[Mapping[str, Any]]) -> Entries:
        found: dict[Any, Any] = {}
        for row in rows:
            lists = [json.loads(row[name]) for name in names]
            for sample, values in enumerate(zip(*lists, strict=True)):
                found[row["slot"], sample] = dict(zip(names, values, strict=True))
        return found

    return entries


def _metrics(rows: Sequence[Mapping[str, Any]]) -> Entries:
    """Give every metric, the whole batch's first."""
    found = {(row["metric"], row["environment"], row["category"]): (row["value"], row["n"]) for row in rows}
    return dict(sorted(found.items(), key=lambda entry: _order(entry[0])))


def _order(place: tuple[str, str | None, str | None]) -> tuple[int, int, str, str]:
    metric, environment, category = place
    depth = (environment is not None) + (category is not None)
    return depth, _METRIC_ORDER.get(metric, len(METRICS)), environment or "", category or ""


def _cells(*names: str) -> Callable[[Sequence[Mapping[str, Any]]], Entries]:
    """Give these values of every cell: environments first, then categories."""

    def entries(rows: Sequence[Mapping[str, Any]]) -> Entries:
        found = {
            (row["metric"], row["environment"], row["category"], row["split"]): tuple(row[n] for n in names)
            for row in rows
        }
        return dict(sorted(found.items(), key=lambda entry: (_order(entry[0][:3]), entry[0][3])))

    return entries


IN_A_STEP = (
    Facet("picks", "picks", _of("stage", "level", "role", "environment", "arm")),
    Facet("probabilities", "picks", _of("environment", "arm", "level", "probability")),
    Facet("tasks", "groups", _of("environment", "category", "task_index", "task_key")),
    Facet("replies", "groups", _of_samples("num_tokens", "finishes", "versions")),
    Facet("scores", "groups", _of_samples("scores", "correct", "reasons")),
    Facet("signals", "picks", _of("environment", "arm", "level", "signal")),
    Facet("metrics", "metrics", _metrics),
)
AT_A_BOUNDARY = (
    Facet("held-out tasks", "cells", _cells("holdout")),
    Facet("measurements", "cells", _cells("value", "stderr", "num_items", "samples_per_item")),
)
