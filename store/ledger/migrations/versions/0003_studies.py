"""Studies and the places of runs in them; which run is whose twin with another bandit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "study",
        sa.Column("study_id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("plan", sa.Text, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "member",
        sa.Column("run_id", sa.Integer, sa.ForeignKey("run.run_id"), primary_key=True, autoincrement=False),
        sa.Column("study_id", sa.Integer, sa.ForeignKey("study.study_id"), nullable=False),
        sa.Column("setting", sa.Text, nullable=False),
        sa.Column("changes", sa.Text, nullable=False),
    )
    op.create_table(
        "twin",
        sa.Column("run_id", sa.Integer, sa.ForeignKey("run.run_id"), primary_key=True, autoincrement=False),
        sa.Column("of_id", sa.Integer, sa.ForeignKey("run.run_id"), nullable=False),
    )
