"""Which run a run was forked from, and where."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "lineage",
        sa.Column("run_id", sa.Integer, sa.ForeignKey("run.run_id"), primary_key=True, autoincrement=False),
        sa.Column("parent_id", sa.Integer, sa.ForeignKey("run.run_id"), nullable=False),
        sa.Column("parent_stage", sa.Integer, nullable=False),
    )
