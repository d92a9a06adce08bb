"""A database's transactions: failures become readable errors, and are tried again while the database is away.

Trying again must neither lose nor double anything. A transaction that fails before its COMMIT has left nothing. One
whose connection breaks during COMMIT may have been committed all the same; the next attempt looks first.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import Connection, Engine, Table, literal, select
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError

from store.errors import LedgerAway, LedgerError
from store.ledger import tables
from store.ledger.engine import patient, writing
from store.ledger.patience import Patience

Result = TypeVar("Result")
Evidence = Callable[[Connection], bool]  # whether a transaction was committed

_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_PASSWORD = (
    " No password is kept with a run: set EVERGREEN_LEDGER_PASSWORD or PGPASSWORD to it, enter it in "
    "~/.pgpass, or name a file that holds it as `ledger.password_file` in the spec of the next run."
)
_READ_ONLY = "25006"  # a server that is about to become, or no longer is, the one that is written to


class Access:
    """A database, and the patience with which it is asked."""

    def __init__(self, engine: Engine, patience: Patience | None = None) -> None:
        self.engine, self.patience = engine, patience or Patience()

    def read(self, work: Callable[[Connection], Result]) -> Result:
        """Ask something. Raises `LedgerError`."""

        def attempt() -> Result:
            with self._engine().connect() as connection:
                return work(connection)

        return self._patiently("Reading", attempt)

    def write(
        self, what: str, work: Callable[[Connection], Result], is_there: Evidence | None = None
    ) -> Result | None:
        """Do something in one transaction; `what` names it in messages. Raises `LedgerError`.

        Args:
            what: as in "Step 3 of run 'a'".
            work: may be called again; what was rolled back has left nothing.
            is_there: finds what the transaction leaves behind; None: doing it twice is doing it once.

        Returns:
            What `work` does; None where an earlier attempt turned out to be committed.
        """
        in_doubt = False  # an attempt failed in its COMMIT, and nobody has looked yet

        def attempt() -> Result | None:
            nonlocal in_doubt
            with writing(self._engine()).begin() as connection:
                if in_doubt and is_there is not None and is_there(connection):
                    return None
                in_doubt = False
                result = work(connection)
                in_doubt = True  # from here on it is the COMMIT that fails
            return result

        return self._patiently(what, attempt)

    @contextmanager
    def explaining(self, what: str, is_opening: bool = False) -> Iterator[None]:
        """Turn what the database's driver raises into a `LedgerError` that a person can read.

        A login that is refused is a mistake for whoever opens a ledger; later the server may just be changing.
        """
        try:
            yield
        except IntegrityError as clash:
            raise LedgerError(
                f"{what} clashes with what the ledger {self.engine.url!r} holds: {clash.orig}. Either it is there "
                "already, or it names something that is not, or a value is missing."
            ) from clash
        except DBAPIError as failed:
            is_mistake = is_opening and "password" in str(failed.orig)
            kind = LedgerAway if is_away(failed) and not is_mistake else LedgerError
            reason = " ".join(str(failed.orig).split()).rstrip(".")  # in a line
            needs_password = self.engine.url.password is None and "password" in str(failed.orig)
            remedy = _PASSWORD if needs_password else ""
            raise kind(f"{what} failed in the ledger {self.engine.url!r}: {reason}.{remedy}") from failed

    def _engine(self) -> Engine:
        return patient(self.engine) if self.patience.is_any else self.engine

    def _patiently(self, what: str, attempt: Callable[[], Result]) -> Result:
        while True:
            try:
                with self.explaining(what):
                    result = attempt()
            except LedgerAway as away:
                self.patience.wait(away)
            else:
                self.patience.answered()
                return result


def is_away(failed: DBAPIError) -> bool:
    """Whether it is the connection that failed, or the database's load, rather than what was asked of it."""
    if failed.connection_invalidated or getattr(failed.orig, "sqlstate", None) == _READ_ONLY:
        return True
    if isinstance(failed.orig, sqlite3.Error):  # a wrong statement is an OperationalError there, too
        return getattr(failed.orig, "sqlite_errorcode", 0) & 0xFF in _BUSY
    return isinstance(failed, OperationalError | InterfaceError)


def row_of_run(table: Table, run_id: int, **values: object) -> Evidence:
    """Look for a row of a run that has these values.

    A server may still be busy with the COMMIT of a connection that is lost. All that belongs to a run refers to its
    row, so whoever has that row's lock has waited for the end of such a transaction.
    """
    wanted = [table.c[name] == value for name, value in values.items()]

    def is_there(connection: Connection) -> bool:
        run = select(tables.run.c.run_id).where(tables.run.c.run_id == run_id)
        connection.execute(run.with_for_update())
        found = select(literal(1)).select_from(table).where(table.c.run_id == run_id, *wanted)
        return connection.scalar(found.limit(1)) is not None

    return is_there
