"""The ledger's schema: which one a database has, and bringing it to ours."""

from __future__ import annotations

from importlib.util import find_spec

from sqlalchemy import Column, Connection, Engine, MetaData, String, Table, insert, inspect, text

from store.errors import LedgerError
from store.ledger.engine import missing_file, writing
from store.ledger.tables import metadata

HEAD = "0004"  # the newest migration; known here so that opening a ledger does not import Alembic
VERSION_TABLE = "evergreen_version"  # our own: MLflow may share the database, and keeps an alembic_version

_TURN = 0x45564752  # PostgreSQL's advisory lock while the schema changes

# What a fresh ledger has beside its tables. These are today's, while a migration keeps those of its day; a test holds
# both ways to the same schema.

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

# From one stage to the next, and how many steps ago the environment that begins had its last stage; NULL: it had none.
# Replay in between is not counted.
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


def prepare(engine: Engine, create: bool) -> None:
    """Make sure that the database has our schema; a fresh one gets it if `create`. Raises `LedgerError`."""
    found = revision(engine)
    if found is None and create:
        with writing(engine).begin() as connection:
            _take_turn(connection)
            if not inspect(connection).has_table(VERSION_TABLE):  # another process may have been faster
                _create(connection)
    elif _ours(engine, found) != HEAD:
        raise LedgerError(
            f"The ledger {engine.url!r} was written by an earlier Evergreen (schema {found}, ours is {HEAD}). "
            "Bring it up to date with `evergreen upgrade`; keep a copy if an older Evergreen still uses it."
        )


def upgrade(engine: Engine) -> None:
    """Bring an older ledger to our schema; one that has it already stays as it is. Raises `LedgerError`."""
    if _ours(engine, revision(engine)) != HEAD:
        if find_spec("alembic") is None:
            raise LedgerError("Upgrading a ledger needs the Python package 'alembic': pip install alembic.")
        migrate(engine)


def revision(engine: Engine) -> str | None:
    """Return the number of the schema that a database has; None: it has none of ours, or is not there."""
    if missing_file(engine):
        return None
    with engine.connect() as connection:
        if not inspect(connection).has_table(VERSION_TABLE):
            return None
        return str(connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}")))


def _ours(engine: Engine, found: str | None) -> str:
    if found is None:
        raise LedgerError(
            f"There is no ledger at {engine.url!r} yet. The first run makes it, and `evergreen resume RUN` makes it "
            "anew for a run whose folder is here."
        )
    if found > HEAD:
        raise LedgerError(
            f"The ledger {engine.url!r} was written by a later Evergreen (schema {found}, ours is {HEAD}). "
            "Install a newer evergreen-rl to use it."
        )
    return found


def _create(connection: Connection) -> None:
    """Make everything in an empty database as the migrations would leave it, only sooner."""
    metadata.create_all(connection, checkfirst=False)
    for statement in (*ROWS_THAT_MEAN_ALL, V_MATRIX, V_STAGE_DELTA, V_CARRY, V_TRANSITION):
        connection.execute(text(statement))
    version = Table(VERSION_TABLE, MetaData(), Column("version_num", String(32), primary_key=True))
    version.primary_key.name = f"{VERSION_TABLE}_pkc"  # as Alembic calls it: to the letter the same table
    version.create(connection)
    connection.execute(insert(version).values(version_num=HEAD))


def migrate(engine: Engine) -> None:
    """Apply what migrations are missing, of a database without our tables all, in one transaction.

    Several processes may try at once.
    """
    from alembic import command
    from alembic.config import Config

    with writing(engine).begin() as connection:
        _take_turn(connection)
        config = Config()
        config.set_main_option("script_location", "store.ledger:migrations")
        config.attributes["connection"] = connection
        command.upgrade(config, HEAD)


def _take_turn(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":  # SQLite's transaction holds the whole file
        connection.execute(text("SELECT pg_advisory_xact_lock(:turn)"), {"turn": _TURN})
