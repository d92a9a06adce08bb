"""What was measured of the policy's plasticity, what changed it at boundaries, and who looked at held-out tasks."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

V_TRANSITION = """
CREATE VIEW v_transition AS
SELECT s.run_id, r.name AS run, s.stage - 1 AS from_stage, s.stage AS to_stage,
       b.name AS from_environment, a.name AS to_environment, s.start_step AS step,
       s.start_step - (SELECT MAX(o.end_step) FROM stage o
                       WHERE o.run_id = s.run_id AND o.environment_id = s.environment_id AND o.stage < s.stage)
           AS gap_steps
FROM stage s
JOIN run r ON r.run_id = s.run_id
JOIN environment a ON a.environment_id = s.environment_id
JOIN stage p ON p.run_id = s.run_id AND p.stage = s.stage - 1
JOIN environment b ON b.environment_id = p.environment_id
"""


def _key(name: str, type_: Any, *target: sa.ForeignKey) -> sa.Column[Any]:
    return sa.Column(name, type_, *target, primary_key=True, autoincrement=False)


def _run() -> sa.Column[Any]:
    return _key("run_id", sa.Integer, sa.ForeignKey("run.run_id"))


def _metric() -> sa.Column[Any]:
    return _key("metric_id", sa.Integer, sa.ForeignKey("metric_def.metric_id"))


def upgrade() -> None:
    op.create_table(
        "measurement",
        _run(),
        _key("after_stage", sa.Integer),
        _key("name", sa.Text),
        sa.Column("passes", sa.Double, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
    )
    op.create_table(
        "network_cell",
        _run(),
        _key("after_stage", sa.Integer),
        _metric(),
        _key("layer", sa.Integer),
        sa.Column("value", sa.Double),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "probe",
        _run(),
        _key("after_stage", sa.Integer),
        _key("kind", sa.Text),
        _key("task", sa.Text),
        _key("seed", sa.Integer),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("protocol", sa.Text, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
    )
    op.create_table(
        "probe_point",
        _run(),
        _key("after_stage", sa.Integer),
        _key("kind", sa.Text),
        _key("task", sa.Text),
        _key("seed", sa.Integer),
        _key("step", sa.Integer),
        _metric(),
        sa.Column("value", sa.Double),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "intervention",
        _run(),
        _key("after_stage", sa.Integer),
        _key("number", sa.Integer),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("params", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("checkpoint_before", sa.Text, nullable=False),
        sa.Column("checkpoint_after", sa.Text, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
    )
    op.create_table(
        "holdout_query",
        sa.Column("holdout_query_id", sa.Integer, primary_key=True),
        sa.Column("run_id", sa.Integer, sa.ForeignKey("run.run_id"), nullable=False),
        sa.Column("after_stage", sa.Integer, nullable=False),
        sa.Column("holdout_id", sa.Integer, sa.ForeignKey("holdout.holdout_id"), nullable=False),
        sa.Column("environment_id", sa.Integer, sa.ForeignKey("environment.environment_id"), nullable=False),
        sa.Column("asker", sa.Text, nullable=False),
        sa.Column("value", sa.Double),
    )
    op.create_index("ix_holdout_query_run_id_after_stage", "holdout_query", ["run_id", "after_stage"])
    op.execute(V_TRANSITION)
