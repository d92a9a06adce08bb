"""A fresh ledger without Alembic: the tables of the code, the views over them, and the stamp of the newest schema.

Where Alembic is installed its migrations make every ledger; this serves hosts that only train and have nothing but
SQLAlchemy. The views are those of today, while a migration keeps those of its day; a test holds both ways to the
same schema.
"""

from __future__ import annotations

from sqlalchemy import Column, Connection, MetaData, String, Table, insert, text

from store.ledger.tables import metadata

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


def create(connection: Connection, version_table: str, version: str) -> None:
    """Make everything in an empty database, in the transaction that is open."""
    metadata.create_all(connection)
    for statement in (*ROWS_THAT_MEAN_ALL, V_MATRIX, V_STAGE_DELTA, V_CARRY):
        connection.execute(text(statement))
    _stamp(connection, version_table, version)


def _stamp(connection: Connection, version_table: str, version: str) -> None:
    """Say which schema this is, in the table in which Alembic looks."""
    table = Table(version_table, MetaData(), Column("version_num", String(32), primary_key=True))
    # Alembic's name for the key: to the letter the same table
    table.primary_key.name = f"{version_table}_pkc"
    table.create(connection)
    connection.execute(insert(table).values(version_num=version))
