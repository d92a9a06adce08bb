"""One hash for a whole run: two runs with the same digest did the same, bit for bit.

`digest` covers stages, picks, tasks, scores, training metrics and the weights; `digest_all` also what was measured:
boundaries, holdouts, cells, items and kept samples, and where there are any: evaluations inside stages, numbers of the
network, probes, interventions, and looks that decided something. Neither sees the final look, which a finished run may
be given later, times, metrics in group "time", keys of tables, names of runs, paths or hosts.

The canonical form: one section after the other; in a section a line of JSON a row, floats as `float.hex`; lines
of one step (or boundary) sorted as text. Rows are streamed, a step at a time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Select, Table, bindparam, select
from sqlalchemy.sql import ColumnElement

from store.ledger import tables as t
from store.records import FINAL

Sections = Mapping[str, Select[Any]]

_ROWS_AT_ONCE = 1000


def digest(connection: Connection, run_id: int, weights_sha256: str, sections: Sections) -> str:
    """Hash the weights and what the sections select of a run; sha256 in hex."""
    hasher = hashlib.sha256(_line(["weights", weights_sha256]))
    options = {"yield_per": _ROWS_AT_ONCE}
    for title, query in sections.items():
        heading = _line(["section", title])
        if title not in WHERE_THERE_ARE_ANY:
            hasher.update(heading)
            heading = b""
        rows = connection.execute(query, {"run_id": run_id}, execution_options=options)
        for _, together in groupby(rows, key=lambda row: row[0]):
            hasher.update(heading + b"".join(sorted(_line(list(row)) for row in together)))
            heading = b""
    return hasher.hexdigest()


def _line(row: list[Any]) -> bytes:
    return json.dumps(_canonical(row), sort_keys=True).encode() + b"\n"


def _canonical(value: Any) -> Any:
    if isinstance(value, float):
        return (value + 0.0).hex()  # a database may lose the sign of zero
    if isinstance(value, list):
        return [_canonical(entry) for entry in value]
    return value


def _section(table: Table, place: str, *columns: str | ColumnElement[Any]) -> Select[Any]:
    """Select a run's rows of a table by name instead of key, ordered by their place in the run."""
    known = {**table.c, **t.NAMES}
    chosen = [known[column] if isinstance(column, str) else column for column in columns]
    query = select(table.c[place], *chosen).select_from(t.with_names(table))
    return query.where(table.c.run_id == bindparam("run_id")).order_by(table.c[place])


_HOLDOUT, _UNTIMED = t.holdout.c, t.metric_def.c.metric_group != "time"
_WHILE_IT_RAN = t.eval_cell.c.split != FINAL
# sections that came later: without a row they are not there, so that earlier runs keep their hash
WHERE_THERE_ARE_ANY = ("evaluations", "network", "probes", "interventions", "holdout queries")

# of the large tables, what a run is known by
PICKS = ("step", "stage", "level", "slot", "role", "environment", "arm", "probability", "signal")
GROUPS = (
    *("step", "slot", "environment", "category", "task_key", "task_index", "role"),
    *("scores", "correct", "reasons", "versions", "num_tokens", "finishes"),
)
METRICS = ("step", "metric", "environment", "category", "value", "n")

TRAINED = {
    "stages": _section(t.stage, "stage", "environment", "start_step", "num_steps", "replay", "end_step", "stop_reason"),
    "picks": _section(t.pick, *PICKS),
    "groups": _section(t.task_group, *GROUPS),
    "metrics": _section(t.step_metric, *METRICS).where(t.metric_def.c.metric_group == "train"),
}

MEASURED = {
    "boundaries": _section(t.boundary, "after_stage", "step", "eval_config"),
    "cells": _section(
        t.eval_cell,
        *("after_stage", "environment", "category", "metric", "split", "eval_config"),
        *(_HOLDOUT.purpose, _HOLDOUT.sha256, _HOLDOUT.num_items),
        *("value", "stderr", "num_items", "samples_per_item"),
    ).where(_UNTIMED, _WHILE_IT_RAN),
    "items": _section(
        t.eval_item,
        *("after_stage", "environment", "category", "task_key", "num_scored", "num_correct"),
        *("value_sum", "entropy_sum", "num_tokens", "answers"),
    ),
    "samples": _section(
        t.sample,
        *("step", "after_stage", "slot", "sample", "environment", "category", "task_key"),
        *("messages", "completion", "value", "correct", "reason"),
    ),
    "evaluations": _section(t.step_metric, *METRICS).where(t.metric_def.c.metric_group == "measure"),
    "network": _section(t.network_cell, "after_stage", "metric", "layer", "value"),
    "probes": _section(t.probe_point, "after_stage", "kind", "task", "seed", "step", "metric", "value"),
    "interventions": _section(t.intervention, "after_stage", "number", "step", "kind", "params", "why"),
    "holdout queries": _section(t.holdout_query, "after_stage", "environment", "asker", "value").where(
        t.holdout_query.c.asker != FINAL
    ),
}
