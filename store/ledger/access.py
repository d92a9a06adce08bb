"""A database's transactions: failures become readable errors, and are tried again while the database is away.

What a lost connection costs is time, and not the run. Trying again must neither lose nor double anything: what fails
before its COMMIT has left nothing; where the connection breaks during it, the next attempt looks first.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, repeat
from typing import TypeVar

from sqlalchemy import Connection, Engine, Table, literal, select
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError

from store.errors import LedgerAway, LedgerError
from store.ledger import tables
from store.ledger.engine import is_busy, patient, writing
from store.logins import ON_RAY
from store.sentences import duration

Result = TypeVar("Result")
Evidence = Callable[[Connection], bool]  # whether a transaction was committed

PAUSES_S = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # after the first failure, the second, ...; then the last again
TELL_S, REMIND_S = 1.0, 60.0  # a wait is first reported after so long, and then again this often
SLICE_S = 0.1  # a signal, or somebody who asks to stop, is heard within it

_PASSWORD = (
    f" No password is kept with a run: set EVERGREEN_LEDGER_PASSWORD or PGPASSWORD to it {ON_RAY}, enter it in "
    "~/.pgpass, or name a file that holds it as `ledger.password_file` in the spec of the next run."
)
_READ_ONLY = "25006"  # a server that is about to become, or no longer is, the one that is written to


class Patience:
    """Counts down `seconds` while a database is away, full again once it has answered; 0: a failure is final.

    `tell` is called with what is waited for, once that lasts, and again every minute.
    """

    def __init__(self, seconds: float = 0.0, tell: Callable[[str], None] = lambda text: None) -> None:
        self.is_any = seconds > 0
        self._seconds, self.tell = seconds, tell
        self.interruption: Callable[[], str | None] = lambda: None  # why to wait no longer, or None
        self._since: float | None = None  # when the absence began, by the monotonic clock
        self._told_at = 0.0
        self._cause = ""
        self._pauses: Iterator[float] = iter(())
        self._news: list[str] = []

    def wait(self, away: LedgerAway) -> None:
        """Pause before the next try, ever longer. Raises `LedgerAway` when patience is over or interrupted.

        It is over for good then: nobody waits a second time for a database that stayed away.
        """
        now = time.monotonic()
        if self._since is None:
            self._since, self._told_at, self._cause = now, now - REMIND_S + TELL_S, str(away)
            self._pauses = chain(PAUSES_S, repeat(PAUSES_S[-1]))
        left = self._since + self._seconds - now
        if left <= 0:
            waited = f" Waited {duration(self._seconds)} for it." if self._seconds else ""
            self._seconds = 0.0
            raise LedgerAway(f"{away}{waited}") from away
        if now - self._told_at >= REMIND_S:
            self._told_at = now
            self.tell(f"{away} Trying again, for {duration(left)} at most; nothing is lost meanwhile")
        self._pause(min(next(self._pauses), left), away)

    def answered(self) -> None:
        """Note that the database is there, and how long it was not."""
        if self._since is not None:
            waited = duration(time.monotonic() - self._since)
            self._news.append(f"the ledger was away, and the run waited {waited} for it: {self._cause}")
            self._since = None

    def take_news(self) -> list[str]:
        """Say what was waited for since the last call."""
        news, self._news = self._news, []
        return news

    def _pause(self, seconds: float, away: LedgerAway) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if (why := self.interruption()) is not None:
                self._seconds = 0.0
                raise LedgerAway(f"{away} Waiting for it was ended: {why}.") from away
            time.sleep(min(SLICE_S, left))


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

    def write(self, what: str, work: Callable[[Connection], Result], is_there: Evidence | None = None) -> Result | None:
        """Do `work` in one transaction, again after what was rolled back; `what` is "Step 3 of run 'a'" in messages.

        `is_there` finds what the transaction leaves behind; None: doing it twice is doing it once. Returns what `work`
        does; None where an earlier attempt turned out to be committed. Raises `LedgerError`.
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
        return is_busy(failed.orig)
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
