"""Which servers there are, as listed or by a file that is read again, and which of them are set aside for a while."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from environments.contracts import EnvironmentFault, RemoteFault

EXAMPLE = "http://127.0.0.1:8400"
READ_EVERY_S = 1.0  # a file of URLs
FAILURES = 3  # in a row, after which a server is set aside
PAUSE_S = 2.0  # of the first time; doubled for each failure that follows at once
MOST_PAUSE_S = 120.0
NONE_LEFT = "no server: all are set aside"
NONE_LISTED = "no server: none is listed"


def require_urls(urls: Sequence[str]) -> None:
    """Raise ValueError: one is no URL of a server, names a password, or is there twice."""
    for url in urls:
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and parts.hostname is not None and parts.port != 0
        except ValueError:  # brackets that do not close, a port beyond 65535
            usable = False
            parts = urlsplit("")
        if parts.username is not None or parts.password is not None:
            raise ValueError("a URL holds a user or a password: name a variable that holds a token, `token_env: NAME`")
        if not usable or parts.query or parts.fragment:
            raise ValueError(f"a server is named like {EXAMPLE}, not {url!r}")
    if len({url.rstrip("/") for url in urls}) < len(urls):
        raise ValueError("a server is listed twice")


def read_urls(file: Path) -> list[str]:
    """Read a file of a URL a line, `#` begins a comment; raises EnvironmentFault if it cannot be read or names none."""
    try:
        lines = [line.partition("#")[0].strip() for line in file.read_text("utf-8").splitlines()]
        urls = [line.rstrip("/") for line in lines if line]
        require_urls(urls)
    except (OSError, ValueError) as error:  # UnicodeDecodeError is one
        raise EnvironmentFault(f"urls_file: {file} cannot be used ({error})") from error
    if not urls:
        raise EnvironmentFault(f"urls_file: {file} lists no server: write a URL like {EXAMPLE} into each line")
    return urls


@dataclass
class _Health:
    num_failures: int = 0  # since the last call that succeeded
    set_aside_until: float = -math.inf  # on the monotonic clock
    is_on_trial: bool = False  # set aside, its time over, and asked by a single caller
    load: int = 0  # episodes that live or begin there


class Servers:
    """The servers, used from several threads: where the next episode begins, and who is not asked for a while."""

    def __init__(self, urls: Sequence[str], file: Path | None) -> None:
        self._file, self._lock = file, threading.Lock()
        self._urls = [url.rstrip("/") for url in urls]
        self._read_at, self._health = -math.inf, dict[str, _Health]()

    def urls(self) -> list[str]:
        """Give all servers that are listed now; the list of before while its file cannot be used."""
        now = time.monotonic()
        if self._file is not None and now - self._read_at > READ_EVERY_S:
            self._read_at = now
            try:
                self._urls = read_urls(self._file)
            except EnvironmentFault:
                if not self._urls:
                    raise
        return self._urls

    def pick(self, avoid: Collection[str] = ()) -> str:
        """Choose the server with the least load, one of those to avoid only where there is no other.

        Raises RemoteFault: all are set aside. One whose time is over is tried by a single caller.
        """
        with self._lock:
            now, urls = time.monotonic(), self.urls()
            there = [url for url in urls if self._of(url).set_aside_until <= now]
            if not there:
                raise RemoteFault(NONE_LEFT if urls else NONE_LISTED)
            url = min(there, key=lambda url: (url in avoid, self._of(url).load))
            health = self._of(url)
            if health.num_failures >= FAILURES:
                health.set_aside_until, health.is_on_trial = now + self._pause(health), True
            return url

    def succeeded(self, url: str) -> None:
        """Note that a server has answered as it should."""
        with self._lock:
            health = self._of(url)
            health.num_failures, health.set_aside_until, health.is_on_trial = 0, -math.inf, False

    def failed(self, url: str) -> None:
        """Note that a server has not; several times in a row set it aside, longer each time."""
        with self._lock:
            health = self._of(url)
            if health.num_failures >= FAILURES and not health.is_on_trial:
                return  # of a call that was under way when it was set aside
            health.num_failures, health.is_on_trial = health.num_failures + 1, False
            if health.num_failures >= FAILURES:
                health.set_aside_until = time.monotonic() + self._pause(health)

    def load(self, url: str, change: int) -> None:
        """Count an episode there, or a call that may begin one; -1: it is over."""
        with self._lock:
            self._of(url).load += change

    def next_s(self) -> float:
        """Seconds until one of them may be picked; 0: now."""
        with self._lock:
            until = min((self._of(url).set_aside_until for url in self.urls()), default=math.inf)
            return max(0.0, until - time.monotonic())

    def _of(self, url: str) -> _Health:
        return self._health.setdefault(url, _Health())

    @staticmethod
    def _pause(health: _Health) -> float:
        return min(MOST_PAUSE_S, PAUSE_S * 2.0 ** max(0, health.num_failures - FAILURES))
