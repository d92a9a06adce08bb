"""The ledger's schema: which one a database has, and bringing it to ours."""

from __future__ import annotations

from sqlalchemy import Connection, Engine, inspect, text

from store.errors import LedgerError
from store.ledger.engine import missing_file, writing

HEAD = "0001"  # the newest migration; known here so that opening a ledger does not import Alembic
VERSION_TABLE = "evergreen_version"  # our own: MLflow may share the database, and keeps an alembic_version

_TURN = 0x45564752  # PostgreSQL's advisory lock while the schema changes


def prepare(engine: Engine, create: bool) -> None:
    """Make sure that the database has our schema; a fresh one gets it if `create`. Raises `LedgerError`."""
    found = None if missing_file(engine) else revision(engine)
    if found == HEAD:
        return
    if found is None:
        if not create:
            raise LedgerError(f"There is no ledger at {engine.url!r} yet. The first run makes it.")
        upgrade(engine)
    elif found < HEAD:
        raise LedgerError(
            f"The ledger {engine.url!r} was written by an earlier Evergreen (schema {found}, ours is {HEAD}). "
            "Bring it up to date with `evergreen upgrade`; keep a copy if an older Evergreen still uses it."
        )
    else:
        raise LedgerError(
            f"The ledger {engine.url!r} was written by a later Evergreen (schema {found}, ours is {HEAD}). "
            "Install a newer evergreen-rl to use it."
        )


def revision(engine: Engine) -> str | None:
    """Return the number of the schema that a database has; None: it has none of ours."""
    with engine.connect() as connection:
        return _revision(connection)


def upgrade(engine: Engine) -> None:
    """Bring a database to our schema, in one transaction. Several processes may try at once."""
    from alembic import command
    from alembic.config import Config

    with writing(engine).begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:turn)"), {"turn": _TURN})
        config = Config()
        config.set_main_option("script_location", "store.ledger:migrations")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
