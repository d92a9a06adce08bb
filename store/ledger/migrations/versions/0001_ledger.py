"""The ledger's first schema: runs and their steps, boundaries, checkpoints, and the views over matrices."""

from __future__ import annotations

from functools import partial
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    _what_runs_are_about()
    _runs()
    _steps()
    _notes()
    _boundaries()
    for statement in (*ROWS_THAT_MEAN_ALL, V_MATRIX, V_STAGE_DELTA, V_CARRY):
        op.execute(statement)


def _id(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Integer, primary_key=True)


def _columns(type_: Any, *names: str, **options: Any) -> list[sa.Column[Any]]:
    """Columns of one type; a name with a dot refers to that column of another table."""
    return [
        sa.Column(name.rpartition(".")[2], type_, *([sa.ForeignKey(name)] if "." in name else []), **options)
        for name in names
    ]


_key = partial(_columns, primary_key=True, autoincrement=False)
_has = partial(_columns, nullable=False)
_may = partial(_columns, nullable=True)


def _what_runs_are_about() -> None:
    op.create_table(
        "environment",
        _id("environment_id"),
        *_has(sa.Text, "name", "version", "type"),
        *_has(sa.Boolean, "closed"),
        *_has(sa.Text, "options", "fingerprint"),
        sa.UniqueConstraint("name", "version", "fingerprint"),
    )
    op.create_table(
        "category",
        _id("category_id"),
        *_has(sa.Integer, "environment.environment_id"),
        *_has(sa.Text, "name"),
        *_has(sa.Boolean, "trainable"),
        *_has(sa.Text, "parameters", "fingerprint"),
        sa.UniqueConstraint("environment_id", "name", "fingerprint"),
    )
    op.create_table(
        "metric_def",
        _id("metric_id"),
        *_has(sa.Text, "name", "metric_group", "unit"),
        *_has(sa.Integer, "direction"),
        *_has(sa.Text, "meaning", "unhealthy"),
        *_may(sa.Double, "ratio_floor"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "eval_config",
        _id("eval_config_id"),
        *_has(sa.Text, "sha256", "settings"),
        sa.UniqueConstraint("sha256"),
    )
    op.create_table(
        "holdout",
        _id("holdout_id"),
        *_has(sa.Integer, "environment.environment_id", "category.category_id"),
        *_has(sa.Text, "purpose", "sha256"),
        *_has(sa.Integer, "num_items"),
        sa.UniqueConstraint("environment_id", "category_id", "purpose", "sha256"),
    )


def _runs() -> None:
    op.create_table(
        "run",
        _id("run_id"),
        *_has(sa.Text, "uid", "name"),
        *_has(sa.BigInteger, "seed"),
        *_has(sa.Text, "model", "objective"),
        *_may(sa.Text, "scheduler"),
        *_has(sa.Text, "bandit", "spec", "host", "status", "created_at"),
        *_may(sa.Text, "ended_at"),
        sa.UniqueConstraint("uid"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "stage",
        *_key(sa.Integer, "run.run_id", "stage"),
        *_has(sa.Integer, "environment.environment_id", "start_step", "num_steps"),
        *_has(sa.Double, "replay"),
        *_may(sa.Integer, "end_step"),
        *_may(sa.Text, "stop_reason"),
        *_has(sa.Text, "started_at"),
        *_may(sa.Text, "ended_at"),
    )
    op.create_table(
        "step",
        *_key(sa.Integer, "run.run_id", "step"),
        *_has(sa.Integer, "stage", "stage_step"),
        *_has(sa.Double, "seconds"),
        *_has(sa.Integer, "num_tokens", "num_samples"),
        *_has(sa.Text, "created_at"),
        sqlite_with_rowid=False,
    )


def _steps() -> None:
    op.create_table(
        "pick",
        *_key(sa.Integer, "run.run_id", "step", "stage"),
        *_key(sa.Text, "level"),
        *_key(sa.Integer, "slot"),
        *_has(sa.Text, "role"),
        *_has(sa.Integer, "environment.environment_id"),
        *_has(sa.Text, "arm"),
        *_has(sa.Double, "probability"),
        *_may(sa.Double, "signal"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "arm_state",
        *_key(sa.Integer, "run.run_id", "step"),
        *_key(sa.Text, "bandit", "arm"),
        *_has(sa.Double, "probability"),
        *_may(sa.Double, "value"),
        *_has(sa.Integer, "num_picks"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "task_group",
        *_key(sa.Integer, "run.run_id", "step", "slot"),
        *_has(sa.Integer, "environment.environment_id", "category.category_id"),
        *_has(sa.Text, "task_key"),
        *_has(sa.Integer, "task_index"),
        *_has(sa.Text, "role"),
        *_has(sa.Integer, "num_samples", "num_scored", "num_correct"),
        *_has(sa.Double, "value_sum"),
        *_has(sa.Text, "scores", "correct", "reasons", "versions", "num_tokens", "finishes"),
    )
    op.create_table(
        "step_metric",
        *_key(sa.Integer, "run.run_id", "step", "metric_def.metric_id"),
        *_key(sa.Integer, "environment.environment_id", "category.category_id"),
        *_may(sa.Double, "value"),
        *_has(sa.Double, "n"),
        sqlite_with_rowid=False,
    )


def _notes() -> None:
    op.create_table(
        "event",
        _id("event_id"),
        *_has(sa.Integer, "run.run_id", "step"),
        *_may(sa.Integer, "stage", "after_stage"),
        *_has(sa.Text, "kind", "text", "data", "created_at"),
    )
    op.create_index("ix_event_run_id_step", "event", ["run_id", "step"])
    op.create_table(
        "sample",
        _id("sample_id"),
        *_has(sa.Integer, "run.run_id", "step"),
        *_may(sa.Integer, "after_stage"),
        *_has(sa.Integer, "slot", "sample", "environment.environment_id", "category.category_id"),
        *_has(sa.Text, "task_key", "messages", "completion"),
        *_may(sa.Double, "value"),
        *_may(sa.Boolean, "correct"),
        *_may(sa.Text, "reason"),
    )
    op.create_index("ix_sample_run_id_step", "sample", ["run_id", "step"])
    op.create_table(
        "checkpoint",
        _id("checkpoint_id"),
        *_has(sa.Integer, "run.run_id", "step", "num_boundaries"),
        *_has(sa.Text, "kind", "folder", "sha256"),
        *_has(sa.BigInteger, "num_bytes"),
        *_has(sa.Text, "created_at"),
        *_may(sa.Text, "deleted_at"),
        sa.UniqueConstraint("run_id", "folder"),
    )


def _boundaries() -> None:
    op.create_table(
        "boundary",
        *_key(sa.Integer, "run.run_id", "after_stage"),
        *_has(sa.Integer, "step", "eval_config.eval_config_id"),
        *_has(sa.Double, "seconds"),
        *_has(sa.Text, "created_at"),
    )
    op.create_table(
        "eval_cell",
        *_key(sa.Integer, "run.run_id", "after_stage", "environment.environment_id"),
        *_key(sa.Integer, "category.category_id", "metric_def.metric_id"),
        *_key(sa.Text, "split"),
        *_key(sa.Integer, "eval_config.eval_config_id", "holdout.holdout_id"),
        *_may(sa.Double, "value", "stderr"),
        *_has(sa.Integer, "num_items", "samples_per_item"),
    )
    op.create_table(
        "eval_item",
        *_key(sa.Integer, "run.run_id", "after_stage", "environment.environment_id"),
        *_key(sa.Integer, "category.category_id", "item"),
        *_has(sa.Text, "task_key"),
        *_has(sa.Integer, "num_scored", "num_correct"),
        *_has(sa.Double, "value_sum", "entropy_sum"),
        *_has(sa.Integer, "num_tokens"),
        *_has(sa.Text, "answers"),
        sqlite_with_rowid=False,
    )


# Row 0 of what cells and metrics point to, so that a key never holds a NULL.
ROWS_THAT_MEAN_ALL = (
    "INSERT INTO environment (environment_id, name, version, type, closed, options, fingerprint)"
    " VALUES (0, '*', '', '*', FALSE, '{}', '')",
    "INSERT INTO category (category_id, environment_id, name, trainable, parameters, fingerprint)"
    " VALUES (0, 0, '*', FALSE, '{}', '')",
    "INSERT INTO holdout (holdout_id, environment_id, category_id, purpose, sha256, num_items)"
    " VALUES (0, 0, 0, '*', '', 0)",
)

# One row a cell, by name.
V_MATRIX = """
CREATE VIEW v_matrix AS
SELECT c.run_id, r.name AS run, c.after_stage, e.name AS environment, k.name AS category, m.name AS metric,
       c.split, c.eval_config_id, c.holdout_id, c.value, c.stderr, c.num_items, c.samples_per_item,
       c.environment_id, c.category_id, c.metric_id, m.ratio_floor
FROM eval_cell c
JOIN run r ON r.run_id = c.run_id
JOIN environment e ON e.environment_id = c.environment_id
JOIN category k ON k.category_id = c.category_id
JOIN metric_def m ON m.metric_id = c.metric_id
"""

# What a stage did to the environment it trained: the cell before it, the cell after it. Only like is compared
# with like: same split, same generation settings, same items.
V_STAGE_DELTA = """
CREATE VIEW v_stage_delta AS
SELECT a.run_id, a.run, s.stage, a.environment, a.category, a.metric, a.split, a.eval_config_id,
       b.value AS value_before, a.value AS value_after, a.value - b.value AS delta,
       CASE WHEN b.value >= a.ratio_floor THEN a.value / b.value END AS ratio
FROM stage s
JOIN v_matrix a ON a.run_id = s.run_id AND a.after_stage = s.stage AND a.environment_id = s.environment_id
JOIN v_matrix b ON b.run_id = s.run_id AND b.after_stage = s.stage - 1
     AND b.environment_id = a.environment_id AND b.category_id = a.category_id AND b.metric_id = a.metric_id
     AND b.split = a.split AND b.eval_config_id = a.eval_config_id AND b.holdout_id = a.holdout_id
"""

# What earlier stages left of the environment that a stage is about to train, against the start of the run.
V_CARRY = """
CREATE VIEW v_carry AS
SELECT a.run_id, a.run, s.stage, a.environment, a.category, a.metric, a.split, a.eval_config_id,
       b.value AS value_base, a.value AS value_arrival,
       CASE WHEN b.value >= a.ratio_floor THEN a.value / b.value END AS ratio
FROM stage s
JOIN v_matrix a ON a.run_id = s.run_id AND a.after_stage = s.stage - 1 AND a.environment_id = s.environment_id
JOIN v_matrix b ON b.run_id = s.run_id AND b.after_stage = 0
     AND b.environment_id = a.environment_id AND b.category_id = a.category_id AND b.metric_id = a.metric_id
     AND b.split = a.split AND b.eval_config_id = a.eval_config_id AND b.holdout_id = a.holdout_id
WHERE s.stage > 1
"""
