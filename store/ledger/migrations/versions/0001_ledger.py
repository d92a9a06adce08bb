"""The ledger's first schema: runs and their steps, boundaries, checkpoints, and the views over matrices."""

from __future__ import annotations

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


def _key(name: str, type_: Any, target: str | None = None) -> sa.Column[Any]:
    return sa.Column(name, type_, *_foreign(target), primary_key=True, autoincrement=False)


def _has(name: str, type_: Any, target: str | None = None) -> sa.Column[Any]:
    return sa.Column(name, type_, *_foreign(target), nullable=False)


def _may(name: str, type_: Any) -> sa.Column[Any]:
    return sa.Column(name, type_, nullable=True)


def _foreign(target: str | None) -> list[sa.ForeignKey]:
    return [sa.ForeignKey(target)] if target else []


def _what_runs_are_about() -> None:
    op.create_table(
        "environment",
        _id("environment_id"),
        _has("name", sa.Text),
        _has("version", sa.Text),
        _has("type", sa.Text),
        _has("closed", sa.Boolean),
        _has("options", sa.Text),
        _has("fingerprint", sa.Text),
        sa.UniqueConstraint("name", "version", "fingerprint"),
    )
    op.create_table(
        "category",
        _id("category_id"),
        _has("environment_id", sa.Integer, "environment.environment_id"),
        _has("name", sa.Text),
        _has("trainable", sa.Boolean),
        _has("parameters", sa.Text),
        _has("fingerprint", sa.Text),
        sa.UniqueConstraint("environment_id", "name", "fingerprint"),
    )
    op.create_table(
        "metric_def",
        _id("metric_id"),
        _has("name", sa.Text),
        _has("metric_group", sa.Text),
        _has("unit", sa.Text),
        _has("direction", sa.Integer),
        _has("meaning", sa.Text),
        _has("unhealthy", sa.Text),
        _may("ratio_floor", sa.Double),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "eval_config",
        _id("eval_config_id"),
        _has("sha256", sa.Text),
        _has("settings", sa.Text),
        sa.UniqueConstraint("sha256"),
    )
    op.create_table(
        "holdout",
        _id("holdout_id"),
        _has("environment_id", sa.Integer, "environment.environment_id"),
        _has("category_id", sa.Integer, "category.category_id"),
        _has("purpose", sa.Text),
        _has("sha256", sa.Text),
        _has("num_items", sa.Integer),
        sa.UniqueConstraint("environment_id", "category_id", "purpose", "sha256"),
    )


def _runs() -> None:
    op.create_table(
        "run",
        _id("run_id"),
        _has("uid", sa.Text),
        _has("name", sa.Text),
        _has("seed", sa.BigInteger),
        _has("model", sa.Text),
        _has("objective", sa.Text),
        _may("scheduler", sa.Text),
        _has("bandit", sa.Text),
        _has("spec", sa.Text),
        _has("host", sa.Text),
        _has("status", sa.Text),
        _has("created_at", sa.Text),
        _may("ended_at", sa.Text),
        sa.UniqueConstraint("uid"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "stage",
        _key("run_id", sa.Integer, "run.run_id"),
        _key("stage", sa.Integer),
        _has("environment_id", sa.Integer, "environment.environment_id"),
        _has("start_step", sa.Integer),
        _has("num_steps", sa.Integer),
        _has("replay", sa.Double),
        _may("end_step", sa.Integer),
        _may("stop_reason", sa.Text),
        _has("started_at", sa.Text),
        _may("ended_at", sa.Text),
    )
    op.create_table(
        "step",
        _key("run_id", sa.Integer, "run.run_id"),
        _key("step", sa.Integer),
        _has("stage", sa.Integer),
        _has("stage_step", sa.Integer),
        _has("seconds", sa.Double),
        _has("num_tokens", sa.Integer),
        _has("num_samples", sa.Integer),
        _has("created_at", sa.Text),
        sqlite_with_rowid=False,
    )


def _steps() -> None:
    op.create_table(
        "pick",
        _key("run_id", sa.Integer, "run.run_id"),
        _key("step", sa.Integer),
        _key("stage", sa.Integer),
        _key("level", sa.Text),
        _key("slot", sa.Integer),
        _has("role", sa.Text),
        _has("environment_id", sa.Integer, "environment.environment_id"),
        _has("arm", sa.Text),
        _has("probability", sa.Double),
        _may("signal", sa.Double),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "arm_state",
        _key("run_id", sa.Integer, "run.run_id"),
        _key("step", sa.Integer),
        _key("bandit", sa.Text),
        _key("arm", sa.Text),
        _has("probability", sa.Double),
        _may("value", sa.Double),
        _has("num_picks", sa.Integer),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "task_group",
        _key("run_id", sa.Integer, "run.run_id"),
        _key("step", sa.Integer),
        _key("slot", sa.Integer),
        _has("environment_id", sa.Integer, "environment.environment_id"),
        _has("category_id", sa.Integer, "category.category_id"),
        _has("task_key", sa.Text),
        _has("task_index", sa.Integer),
        _has("role", sa.Text),
        _has("num_samples", sa.Integer),
        _has("num_scored", sa.Integer),
        _has("num_correct", sa.Integer),
        _has("value_sum", sa.Double),
        _has("scores", sa.Text),
        _has("correct", sa.Text),
        _has("reasons", sa.Text),
        _has("versions", sa.Text),
        _has("num_tokens", sa.Text),
        _has("finishes", sa.Text),
    )
    op.create_table(
        "step_metric",
        _key("run_id", sa.Integer, "run.run_id"),
        _key("step", sa.Integer),
        _key("metric_id", sa.Integer, "metric_def.metric_id"),
        _key("environment_id", sa.Integer, "environment.environment_id"),
        _key("category_id", sa.Integer, "category.category_id"),
        _may("value", sa.Double),
        _has("n", sa.Double),
        sqlite_with_rowid=False,
    )


def _notes() -> None:
    op.create_table(
        "event",
        _id("event_id"),
        _has("run_id", sa.Integer, "run.run_id"),
        _has("step", sa.Integer),
        _may("stage", sa.Integer),
        _may("after_stage", sa.Integer),
        _has("kind", sa.Text),
        _has("text", sa.Text),
        _has("data", sa.Text),
        _has("created_at", sa.Text),
    )
    op.create_index("ix_event_run_id_step", "event", ["run_id", "step"])
    op.create_table(
        "sample",
        _id("sample_id"),
        _has("run_id", sa.Integer, "run.run_id"),
        _has("step", sa.Integer),
        _may("after_stage", sa.Integer),
        _has("slot", sa.Integer),
        _has("sample", sa.Integer),
        _has("environment_id", sa.Integer, "environment.environment_id"),
        _has("category_id", sa.Integer, "category.category_id"),
        _has("task_key", sa.Text),
        _has("messages", sa.Text),
        _has("completion", sa.Text),
        _may("value", sa.Double),
        _may("correct", sa.Boolean),
        _may("reason", sa.Text),
    )
    op.create_index("ix_sample_run_id_step", "sample", ["run_id", "step"])
    op.create_table(
        "checkpoint",
        _id("checkpoint_id"),
        _has("run_id", sa.Integer, "run.run_id"),
        _has("step", sa.Integer),
        _has("num_boundaries", sa.Integer),
        _has("kind", sa.Text),
        _has("folder", sa.Text),
        _has("sha256", sa.Text),
        _has("num_bytes", sa.BigInteger),
        _has("created_at", sa.Text),
        _may("deleted_at", sa.Text),
        sa.UniqueConstraint("run_id", "folder"),
    )


def _boundaries() -> None:
    op.create_table(
        "boundary",
        _key("run_id", sa.Integer, "run.run_id"),
        _key("after_stage", sa.Integer),
        _has("step", sa.Integer),
        _has("eval_config_id", sa.Integer, "eval_config.eval_config_id"),
        _has("seconds", sa.Double),
        _has("created_at", sa.Text),
    )
    op.create_table(
        "eval_cell",
        _key("run_id", sa.Integer, "run.run_id"),
        _key("after_stage", sa.Integer),
        _key("environment_id", sa.Integer, "environment.environment_id"),
        _key("category_id", sa.Integer, "category.category_id"),
        _key("metric_id", sa.Integer, "metric_def.metric_id"),
        _key("split", sa.Text),
        _key("eval_config_id", sa.Integer, "eval_config.eval_config_id"),
        _key("holdout_id", sa.Integer, "holdout.holdout_id"),
        _may("value", sa.Double),
        _may("stderr", sa.Double),
        _has("num_items", sa.Integer),
        _has("samples_per_item", sa.Integer),
    )
    op.create_table(
        "eval_item",
        _key("run_id", sa.Integer, "run.run_id"),
        _key("after_stage", sa.Integer),
        _key("environment_id", sa.Integer, "environment.environment_id"),
        _key("category_id", sa.Integer, "category.category_id"),
        _key("item", sa.Integer),
        _has("task_key", sa.Text),
        _has("num_scored", sa.Integer),
        _has("num_correct", sa.Integer),
        _has("value_sum", sa.Double),
        _has("entropy_sum", sa.Double),
        _has("num_tokens", sa.Integer),
        _has("answers", sa.Text),
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
