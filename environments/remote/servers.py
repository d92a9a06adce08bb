"""Which servers there are, as listed or by a file that is read again, and which of them are set aside for a while."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from environments.contracts import EnvironmentFault, RemoteFault
from environments.futures import LONG_S

EXAMPLE = "http://127.0.0.1:8400"
READ_EVERY_S = 1.0  # a file of URLs
MOST_NAMED = 3  # servers that are waited for
FAILURES = 3  # in a row, of one kind, after which a server is set aside
PAUSE_S = 2.0  # of the first time; doubled for each failure that follows at once
MOST_PAUSE_S = 120.0
NONE_LEFT = "no server: all are set aside"
NONE_LISTED = "no server: none is listed"
FULL = (
    "an episode found all servers busy for {:g} s (`retry_s`): where they have room for fewer than are played at once,"
    " say for how many each has, `episodes_per_server: N`, or lower `step.groups` or `group_size`"
)


def require_urls(urls: Sequence[str]) -> None:
    """Raise ValueError: one is no URL of a server, names a password, or is there twice."""
    for url in urls:
        try:
            parts = urlsplit(url)
            named = bool((parts.hostname or "").encode("idna"))
            usable = parts.scheme in ("http", "https") and named and parts.port != 0
            has_user = "@" in parts.netloc
        except ValueError:  # brackets that do not close, a port beyond 65535, two dots in a row in a name
            usable, has_user = False, "@" in url
        if has_user or (not usable and "@" in url):
            raise ValueError("a URL holds a user or a password: name a variable that holds a token, `token_env: NAME`")
        if not usable or parts.query or parts.fragment:
            shown = re.split("[?#]", url)[0]  # what follows may be secret
            raise ValueError(f"a server is named like {EXAMPLE}, not {shown!r}{' and more' if shown != url else ''}")
    if len(set(map(_place, urls))) < len(urls):
        raise ValueError("a server is listed twice")


def _place(url: str) -> tuple[str, str, int, str]:
    """Say which server a URL that can be used names, alike for all that name it."""
    parts = urlsplit(url)
    host = "127.0.0.1" if parts.hostname == "localhost" else str(parts.hostname)  # in lower case
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    return parts.scheme, host, port, parts.path.rstrip("/")


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


class Resting(RemoteFault):
    """All servers that may be asked want to be left alone for a while, the message: what one of them said."""

    def __init__(self, cause: str, is_busy: bool) -> None:
        super().__init__(cause)
        self.is_busy = is_busy


@dataclass
class _Failures:
    """Failures in a row, of one kind, of one server."""

    num: int = 0
    cause: str = ""  # of the last
    set_aside_until: float = -math.inf  # on the monotonic clock
    is_on_trial: bool = False  # set aside, its time over, and asked by a single caller

    def add(self, cause: str) -> bool:
        """Count one; several set the server aside, longer each time. True: now, and it was not before."""
        self.cause = cause
        if self.num >= FAILURES and not self.is_on_trial:
            return False  # of what was under way when it was set aside
        self.num, self.is_on_trial = self.num + 1, False
        if self.num >= FAILURES:
            self.set_aside_until = time.monotonic() + self._pause()
        return self.num == FAILURES

    def clear(self) -> None:
        self.num, self.set_aside_until, self.is_on_trial = 0, -math.inf, False

    def try_once(self, now: float) -> None:
        """Let a single caller ask a server whose time is over."""
        if self.num >= FAILURES and self.set_aside_until <= now:
            self.set_aside_until, self.is_on_trial = now + self._pause(), True

    def _pause(self) -> float:
        return min(MOST_PAUSE_S, PAUSE_S * 2.0 ** max(0, self.num - FAILURES))


@dataclass
class _Health:
    # Apart, as a server whose episodes all fail may answer every other call, between them too. Who is silent is not
    # asked; whose episodes fail is asked where no other is left, as the cause may be the tasks, alike everywhere.
    silence: _Failures = field(default_factory=_Failures)
    episodes: _Failures = field(default_factory=_Failures)
    is_vouched: bool = False  # it said what the environment is, and has neither failed nor been off the list since
    rests_until: float = -math.inf  # it has asked not to be asked before
    rest: tuple[str, bool] = ("", False)  # why, and whether as it has no room
    busy: tuple[float, float] | None = None  # it had no room, as often as it was asked: since when, and when last
    load: int = 0  # episodes that live or begin there
    asked_at: list[float] = field(default_factory=list)  # when the calls began that are under way, by the same clock
    has_failed_farewell: bool = False  # it failed to take a farewell, and that was told


class Servers:
    """The servers, used from several threads: where the next episode begins, and who is not asked for a while."""

    def __init__(self, urls: Sequence[str], file: Path | None) -> None:
        self._file, self._lock = file, threading.Lock()
        self._urls = [url.rstrip("/") for url in urls]
        self._read_at, self._health = -math.inf, dict[str, _Health]()
        self._names = set[tuple[str, str]]()  # of the episodes that live, with their servers
        self._fault_of_file = ""  # why it cannot be used now, which was told
        self._was_full = False  # an episode found no room, and that was told
        self._news = dict[tuple[str, str], str]()  # by server and kind: what was set aside since it was taken

    def urls(self) -> list[str]:
        """Give all servers that are listed now; the list of before while its file cannot be used."""
        now = time.monotonic()
        if self._file is not None and now - self._read_at > READ_EVERY_S:
            self._read_at = now
            before = self._urls
            fault = ""
            try:
                self._urls = read_urls(self._file)
            except EnvironmentFault as error:
                if not self._urls:
                    raise
                fault = str(error)
            if fault and fault != self._fault_of_file:
                self._news["", "file"] = f"{fault}: the list of before holds"
            self._fault_of_file = fault
            for url in set(before) - set(self._urls):
                self._of(url).is_vouched = False
        return self._urls

    def pick(self, never: Collection[str] = ()) -> str:
        """Choose the server with the least load; those whose episodes fail come after the others.

        Raises RemoteFault: all that may be asked are set aside; Resting: of those that are not, each has asked to be
        left alone. One whose time is over is tried by a single caller.
        """
        with self._lock:
            now, urls = time.monotonic(), self.urls()
            answering = [url for url in urls if url not in never and self._of(url).silence.set_aside_until <= now]
            there = [url for url in answering if self._of(url).rests_until <= now]
            if answering and not there:
                raise Resting(*self._of(answering[0]).rest)
            if not there:
                raise RemoteFault(NONE_LEFT if urls else NONE_LISTED)

            def rank(url: str) -> tuple[bool, int]:
                health = self._of(url)
                return health.episodes.set_aside_until > now, health.load

            url = min(there, key=rank)
            self._of(url).silence.try_once(now)
            self._of(url).episodes.try_once(now)
            return url

    def num_there(self) -> int:
        """Count the servers that may be asked now; where there are none, one that may come back."""
        with self._lock:
            now = time.monotonic()
            return max(1, sum(self._of(url).silence.set_aside_until <= now for url in self.urls()))

    def answered(self, url: str) -> None:
        """Note that a server answers, whatever it says."""
        with self._lock:
            self._of(url).silence.clear()

    def unanswered(self, url: str, cause: str) -> None:
        """Note that it does not; several times in a row set it aside."""
        with self._lock:
            self._of(url).is_vouched = False
            if self._of(url).silence.add(cause):
                text = f"{url} is set aside: {FAILURES} failures in a row, the last: {cause}"
                self._news[url, "silence"] = text

    def rest(self, url: str, for_s: float, cause: str, *, is_busy: bool = False) -> None:
        """Note that a server asks not to be asked for a while, which is heeded for `MOST_PAUSE_S` at most."""
        with self._lock:
            health = self._of(url)
            health.rests_until, health.rest = time.monotonic() + min(for_s, MOST_PAUSE_S), (cause, is_busy)

    def busy(self, url: str, is_busy: bool) -> None:
        """Note whether a server that was asked had room."""
        with self._lock:
            health, now = self._of(url), time.monotonic()
            since, last = health.busy or (now, now)
            health.busy = (since if now - last < MOST_PAUSE_S else now, now) if is_busy else None

    def succeeded(self, url: str) -> None:
        """Note that an episode has ended there as it should."""
        with self._lock:
            self._of(url).episodes.clear()

    def failed(self, url: str, cause: str) -> None:
        """Note that one has not, or that what was asked for is not to be had there; others come first after several."""
        with self._lock:
            self._of(url).is_vouched = False
            if self._of(url).episodes.add(cause) and len(self._urls) > 1:
                text = f"{url} is set aside: {FAILURES} failures in a row, the last: {cause}"
                self._news[url, "episodes"] = text

    def full(self, retry_s: float) -> None:
        """Note that an episode found no room; people are told once."""
        with self._lock:
            if not self._was_full:
                self._was_full = True
                self._news["", "room"] = FULL.format(retry_s)

    def farewell_failed(self, url: str, cause: str) -> None:
        """Note that a server does not take farewells; people are told once, and nothing else comes of it."""
        with self._lock:
            if not self._of(url).has_failed_farewell:
                self._of(url).has_failed_farewell = True
                self._news[url, "farewells"] = (
                    f"{url} fails to take goodbyes (DELETE: {cause}): episodes that are cut off go on there until their"
                    " lease ends"
                )

    def take_news(self) -> list[str]:
        """Give what happened since it was last asked: who was set aside and why, has no room, takes no farewells.

        Also that the file of URLs cannot be used any more.
        """
        with self._lock:
            news, self._news = list(self._news.values()), {}
            return news

    @contextmanager
    def asked(self, url: str) -> Iterator[None]:
        """Count a call as under way while the block lasts."""
        begun_at = time.monotonic()
        with self._lock:
            calls = self._of(url).asked_at
            calls.append(begun_at)
        try:
            yield
        finally:
            with self._lock:
                calls.remove(begun_at)

    def waits_for(self) -> str | None:
        """Say which servers are silent, ask to be left alone or are busy for long, or have owed an answer for long."""
        with self._lock:
            now, said = time.monotonic(), list[str]()
            for url in self.urls():
                health = self._of(url)
                if health.silence.num:
                    said.append(f"{url} does not answer ({health.silence.cause})")
                elif (rests_s := health.rests_until - now) > 0:
                    said.append(f"{url} asks not to be asked for {rests_s:.0f} s ({health.rest[0]})")
                elif (waited_s := now - min(health.asked_at, default=now)) > LONG_S:
                    said.append(f"{url} has not answered for {waited_s:.0f} s")
                elif health.busy and health.busy[1] - health.busy[0] > LONG_S and now - health.busy[1] < MOST_PAUSE_S:
                    said.append(f"{url} has been busy for {now - health.busy[0]:.0f} s")
        more = f" and {len(said) - MOST_NAMED} more servers" if len(said) > MOST_NAMED else ""
        return f"{', '.join(said[:MOST_NAMED])}{more}" if said else None

    def load(self, url: str, change: int) -> None:
        """Count an episode there, or a call that may begin one; -1: it is over."""
        with self._lock:
            self._of(url).load += change

    def vouch(self, url: str) -> None:
        """Note that a server has said what the environment is."""
        with self._lock:
            self._of(url).is_vouched = True

    def is_vouched(self, url: str) -> bool:
        """Whether it has, and has neither failed nor been off the list since."""
        with self._lock:
            return self._of(url).is_vouched

    def claim(self, url: str, name: str) -> bool:
        """Note what a server calls an episode; False: another that lives there has that name."""
        with self._lock:
            is_new = (url, name) not in self._names
            self._names.add((url, name))
            return is_new

    def release(self, url: str, name: str) -> None:
        """Note that an episode of a name lives no more."""
        with self._lock:
            self._names.discard((url, name))

    def next_s(self, never: Collection[str] = ()) -> float:
        """Seconds until one of them may be picked; 0: now."""
        with self._lock:
            asked = [self._of(url) for url in self.urls() if url not in never]
            until = min((max(one.silence.set_aside_until, one.rests_until) for one in asked), default=math.inf)
            return max(0.0, until - time.monotonic())

    def _of(self, url: str) -> _Health:
        return self._health.setdefault(url, _Health())
