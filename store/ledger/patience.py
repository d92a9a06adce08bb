"""How long to wait for a database that is away: what a lost connection costs is time, and not the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import chain, repeat

from store.duration import duration
from store.errors import LedgerAway

PAUSES_S = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # after the first failure, the second, ...; then the last again
TELL_S, REMIND_S = 1.0, 60.0  # a wait is first reported after so long, and then again this often
SLICE_S = 0.1  # a signal, or somebody who asks to stop, is heard within it


class Patience:
    """Counts down while a database is away; full again once it has answered.

    Args:
        seconds: for one absence; 0: a failure is final.
        tell: called with what is waited for, once that lasts, and again every minute.
    """

    def __init__(self, seconds: float = 0.0, tell: Callable[[str], None] = lambda text: None) -> None:
        self.is_any = seconds > 0
        self._seconds, self._tell = seconds, tell
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
            self._tell(f"{away} Trying again, for {duration(left)} at most; nothing is lost meanwhile")
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
