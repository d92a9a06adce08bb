"""What MLflow holds, read from its database past its API: every row, doubles too."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

from store.carryover import OUTCOMES, SWITCHES
from store.tracker.names import PER_CATEGORY, PER_ENVIRONMENT
from store.tracker.record import Target

Point = tuple[int, int, float]  # step, time in ms, value

_ACTIVE = "r.lifecycle_stage = 'active'"
_RUNS = f"SELECT r.name, r.status, r.start_time, r.end_time FROM runs r WHERE {_ACTIVE} ORDER BY 1"
_POINTS = f"""
    SELECT r.name, m.key, m.step, m.timestamp, m.value FROM metrics m JOIN runs r ON r.run_uuid = m.run_uuid
    WHERE {_ACTIVE} AND m.is_nan = 0 ORDER BY 1, 2, 3, 4, 5
"""
_WORDS = f"""
    SELECT r.name, x.key, x.value FROM {{}} x JOIN runs r ON r.run_uuid = x.run_uuid
    WHERE {_ACTIVE} AND x.key NOT IN ('mlflow.parentRunId', 'evergreen.store_uri') ORDER BY 1, 2, 3
"""
_TABLES = ("runs", "metrics", "latest_metrics", "params", "tags")


def rows(target: Target, query: str) -> list[tuple[Any, ...]]:
    assert target.database is not None
    with closing(sqlite3.connect(target.database)) as database:
        return database.execute(query).fetchall()


def names(target: Target) -> list[str]:
    """The active runs."""
    return [row[0] for row in rows(target, _RUNS)]


def series(target: Target) -> dict[str, dict[str, list[Point]]]:
    """Run -> name -> points."""
    found: dict[str, dict[str, list[Point]]] = {}
    for run, name, step, at_ms, value in rows(target, _POINTS):
        found.setdefault(run, {}).setdefault(name, []).append((step, at_ms, value))
    return found


def everything(target: Target) -> list[list[tuple[Any, ...]]]:
    """All active runs with their points, params and tags; but not MLflow's own ids, and where the ledger is."""
    queries = (_RUNS, _POINTS, _WORDS.format("params"), _WORDS.format("tags"))
    return [rows(target, query) for query in queries]


def num_rows(target: Target) -> list[int]:
    """Rows of every table that a tracker writes to, deleted runs included."""
    return [rows(target, f"SELECT COUNT(*) FROM {table}")[0][0] for table in _TABLES]


def files(folder: Path) -> dict[str, bytes]:
    """A curriculum's files, by their path below <folder>/<run>/artifacts."""
    return {
        path.relative_to(folder).as_posix().partition("/artifacts/")[2]: path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def ms(at: str | None) -> int:
    """The ledger's time as MLflow's, worked out anew."""
    assert at is not None
    return round(datetime.fromisoformat(at).timestamp() * 1000)


PROBES = (
    *("sft_level", "sft_gain_ratio", "sft_loss_change"),
    *("rl_level", "rl_gain_ratio", "rl_auc_ratio", "rl_end_level_diff", "randlabel_ratio", "linear_acc"),
)
# <env> and <category> stand for a run's own, <metric> for a line of store/metrics.py
PATTERNS = (
    *("train/<metric>", "time/<metric>"),
    *(f"{name}/<env>" for name in PER_ENVIRONMENT.values()),
    *(f"{name}_by_category/<env>.<category>" for name in (*PER_CATEGORY, "bandit_prob")),
    *(f"progress/{name}" for name in ("stage_step", "stage_idx", "tokens", "wall_h")),
    *("R_<metric>/<env>", "support_<what>/<env>"),
    *("net/<metric>", "net/<metric>_mid", "net/<metric>_last"),
    *(f"probe/{name}" for name in PROBES),
    "final/trainability",
    *("looking_seconds/<measurement>", "looking_passes/<measurement>"),
    *(one.name for one in SWITCHES),
    *(one.mlflow for one in OUTCOMES),
    *(f"bandit_{name}/<env>" for name in ("prob", "index", "pulls")),
    "bandit/reward",
)
