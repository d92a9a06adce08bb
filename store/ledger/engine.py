"""Database connections: any SQLAlchemy URL, with what SQLite needs to serve several processes."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from store.errors import LedgerError

_BUSY_MS, _PATIENT_BUSY_MS = 20_000, 1_000

# FULL: a step's rows survive a power cut once they are written, as the checkpoint does that is made after them.
_PRAGMAS = (f"busy_timeout = {_BUSY_MS}", "synchronous = FULL", "foreign_keys = ON")

_ASKED_AGAIN_S = 0.01
_IMMUTABLE = "immutable=1"  # SQLite then neither locks the file nor looks whether it has changed
# libpq's own waits are endless, or as long as the kernel's: a host that vanished is noticed within a minute
_SERVER = {
    "connect_timeout": 10,
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 50_000,
}


def make_engine(url: str) -> Engine:
    """Make an engine; nothing is connected yet."""
    parsed = parsed_url(url)
    logging.getLogger("psycopg").setLevel(logging.ERROR)  # we report a lost connection ourselves
    arguments = _SERVER if parsed.get_backend_name() == "postgresql" else {}
    try:
        # a connection that was dropped while it was idle is noticed, and replaced, before it is used
        engine = create_engine(
            parsed,
            pool_pre_ping=parsed.get_backend_name() != "sqlite",
            connect_args={name: value for name, value in arguments.items() if name not in parsed.query},
        )
    except ArgumentError as wrong:
        raise _of_no_kind(parsed) from wrong
    except ModuleNotFoundError as missing:
        raise LedgerError(
            f"A ledger at {parsed!r} needs the Python package {missing.name!r}. For PostgreSQL: "
            "pip install 'evergreen-rl[postgresql]'."
        ) from missing
    if engine.dialect.name == "sqlite":
        _prepare_sqlite(engine)
    return engine


def check_url(url: str) -> None:
    """Refuse what cannot be a ledger's URL; nothing is connected, and its driver need not be here."""
    parsed = parsed_url(url)
    try:
        parsed.get_dialect()
    except ArgumentError as wrong:
        raise _of_no_kind(parsed) from wrong
    except ModuleNotFoundError:
        return  # the driver of another host
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise LedgerError("A ledger in memory ends with its process: name a file, sqlite:////data/evergreen.db.")


def writing(engine: Engine) -> Engine:
    """Return the same engine for transactions that write: on SQLite they take the lock as they begin.

    A transaction that reads first and writes later would fail at once, whatever the timeout, if another
    process wrote in between.
    """
    return engine.execution_options(writes=True)


def patient(engine: Engine) -> Engine:
    """Return the same engine, for which SQLite soon says that it is locked: while it waits, Python hears no signal."""
    return engine.execution_options(busy_ms=_PATIENT_BUSY_MS)


def missing_file(engine: Engine) -> Path | None:
    """Return the file of an SQLite database that is not there yet; connecting would make it."""
    if engine.dialect.name != "sqlite" or engine.url.database in (None, "", ":memory:"):
        return None
    path = Path(str(engine.url.database))
    return None if path.exists() else path


def is_busy(failed: sqlite3.Error) -> bool:
    """Whether somebody else holds the database, rather than that the statement is wrong."""
    return getattr(failed, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def switch_to_wal(connection: sqlite3.Connection) -> None:
    """Have a database keep a write-ahead log, as several processes need it: readers and a writer do not wait then.

    While another process writes to a database that has none yet, as one does that has just made it, SQLite refuses this
    at once, whatever the timeout.
    """
    until = time.monotonic() + _BUSY_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as failed:
            if not is_busy(failed) or time.monotonic() >= until:
                raise
        time.sleep(_ASKED_AGAIN_S)


def read_only_uri(path: Path) -> str | None:
    """Return the URI that SQLite opens such a database by; None: it can be written to, or is not there.

    The newest transactions of a database may lie beside it, in its WAL. SQLite reads those with the help of a third
    file, which it could not make here; without a WAL the database is declared immutable, which is true until somebody
    opens it to write. Raises `LedgerError`.
    """
    if not path.exists() or (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        return None
    wal, shm = (path.with_name(path.name + end) for end in ("-wal", "-shm"))
    uri = f"file:{quote(str(path.absolute()))}?mode=ro"
    if wal.exists() and shm.exists():
        return uri
    if not wal.exists() or not wal.stat().st_size:
        return f"{uri}&{_IMMUTABLE}"
    raise LedgerError(
        f"The newest rows of the ledger {path} are in {wal.name}, which SQLite cannot read without {shm.name}, nor "
        "make that in a folder it cannot write to. Copy both files to a folder that can be written to."
    )


def _of_no_kind(parsed: URL) -> LedgerError:
    return LedgerError(f"No kind of database is called {parsed.drivername!r}.")


def parsed_url(url: str) -> URL:
    """Read a ledger's URL; `postgresql://` means psycopg 3. Raises `LedgerError` for what is none."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as wrong:  # ValueError: a port that is no number
        raise LedgerError(f"{url!r} is not the URL of a database, like sqlite:///runs/evergreen.db.") from wrong
    if parsed.host and "@" in parsed.host:  # the password has one, too
        more, _, host = parsed.host.rpartition("@")
        parsed = parsed.set(password=f"{parsed.password}@{more}", host=host)
    return parsed.set(drivername="postgresql+psycopg") if parsed.drivername == "postgresql" else parsed


def _prepare_sqlite(engine: Engine) -> None:
    """Have connections begin transactions, and wait for one another, as several processes need it."""

    @event.listens_for(engine, "do_connect")
    def open_file(_dialect: Any, record: Any, arguments: list[Any], options: dict[str, Any]) -> None:
        uri = read_only_uri(Path(arguments[0]))
        record.info["is_read_only"] = uri is not None
        record.info["is_immutable"] = uri is not None and uri.endswith(_IMMUTABLE)
        if uri is not None:
            arguments[0], options["uri"] = uri, True

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # the driver would begin transactions by itself, and too late
        if not record.info["is_read_only"]:
            for pragma in _PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
            switch_to_wal(connection)

    @event.listens_for(engine, "checkin")
    def let_go(_connection: Any, record: Any) -> None:
        if record.info.get("is_immutable"):  # somebody may begin to write: the next one looks again
            record.invalidate()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {options.get('busy_ms', _BUSY_MS)}")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("writes") else "BEGIN")
