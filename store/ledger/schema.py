"""The ledger's schema: which one a database has, and bringing it to ours."""

from __future__ import annotations

from importlib.util import find_spec

from sqlalchemy import Connection, Engine, inspect, text

from store.errors import LedgerError
from store.ledger import fresh
from store.ledger.engine import missing_file, writing

HEAD = "0003"  # the newest migration; known here so that opening a ledger does not import Alembic
VERSION_TABLE = "evergreen_version"  # our own: MLflow may share the database, and keeps an alembic_version

_TURN = 0x45564752  # PostgreSQL's advisory lock while the schema changes


def prepare(engine: Engine, create: bool) -> None:
    """Make sure that the database has our schema; a fresh one gets it if `create`. Raises `LedgerError`."""
    found = revision(engine)
    if found is None and create:
        _make(engine)
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
        _migrate(engine)


def revision(engine: Engine) -> str | None:
    """Return the number of the schema that a database has; None: it has none of ours, or is not there."""
    if missing_file(engine):
        return None
    with engine.connect() as connection:
        if not inspect(connection).has_table(VERSION_TABLE):
            return None
        return str(connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}")))


def _ours(engine: Engine, found: str | None) -> str:
    """Return a schema that we know, or refuse."""
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


def _make(engine: Engine) -> None:
    """Give a fresh database our schema; without Alembic it is made as the migrations would leave it."""
    if find_spec("alembic") is not None:
        _migrate(engine)
        return
    with writing(engine).begin() as connection:
        _take_turn(connection)
        if not inspect(connection).has_table(VERSION_TABLE):  # another process may have been faster
            fresh.create(connection, VERSION_TABLE, HEAD)


def _migrate(engine: Engine) -> None:
    """Apply what migrations are missing, in one transaction. Several processes may try at once."""
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
