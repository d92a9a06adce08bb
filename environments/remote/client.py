"""Calls over HTTP: a time limit each, failures told apart by cause, replies limited in size and checked in form."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import aiohttp
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, ValidationInfo

from environments.contracts import EnvironmentFault, RemoteFault
from environments.display import brief
from environments.remote.replay import LOST
from environments.remote.servers import Resting, Servers

CONNECT_S = 10.0
MOST_BYTES = 2**24  # of a reply
PIECE = 2**16  # bytes read at once
LONGEST_SAID = 200  # characters of what a server says of a failure
FIRST_PAUSE_S = 0.2  # before a call is made again; doubled each time, and up to half as long again
MOST_PAUSE_S = 5.0
BUSY, UNAVAILABLE, TOKEN_REFUSED_BY = 429, (502, 503, 504), (401, 403)
BUSY_SAID = f"busy ({BUSY})"
CLOSE_S = 5.0  # for a reply to a farewell
HEARTBEAT_S = 20.0  # of a WebSocket

NO_ANSWER = (TimeoutError, aiohttp.ClientError, OSError)  # what the library raises where there is none
TIMED_OUT = "timed out"  # how the reason begins of a call that took too long
TOKEN_REFUSED = "token refused"
BAD_REPLY = "bad reply"  # how the reason begins of a reply that is not in form
HOLDS_TOKEN = f"{BAD_REPLY}: it holds the token of `token_env`"
LEAST_TOKEN = 8  # characters: shorter ones stand in texts by chance

# Names of a server's own, below which a reply's fault is not told apart: reasons are counted by text.
_OPEN = frozenset({"components", "parameters", "observation", "metadata"})


class Reply(BaseModel):
    """Base of what servers say: strict types, no infinite numbers; fields that are not known here are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False)


def _masked(text: str, about: ValidationInfo) -> str:
    token = (about.context or {}).get("token")
    return text.replace(token, "***") if token else text


Said = Annotated[str, AfterValidator(_masked)]  # a text for people: a token that it holds is masked


class Unanswered(RemoteFault):
    """A call failed for a cause that may pass, the message: it may be made again, or of another server."""

    def __init__(self, cause: str, again_s: float = 0.0) -> None:
        super().__init__(cause)
        self.again_s = again_s  # for so long the server asks not to be asked


class TimedOut(Unanswered):
    """A call took longer than it may; made again it would take as long."""


class Busy(Unanswered):
    """A server is well and has no room for a call."""


class NoRoom(RemoteFault):
    """All servers that were asked went on being busy."""


class Refused(RemoteFault):
    """A server will not have a call."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"refused: {status}{said and f' {said}'}")
        self.status = status


class TokenRefused(Refused):
    """A server does not take our token, or wants one."""

    def __init__(self, status: int) -> None:
        super().__init__(status, "")
        self.args = (TOKEN_REFUSED,)

    def fault(self, name: str, server: str) -> EnvironmentFault:
        """Tell it of a server of the environment `name`."""
        return EnvironmentFault(
            f"environment {name}: {server} refuses the token (HTTP {self.status}): name the variable that holds the"
            " right one, `token_env: NAME`"
        )


class BadReply(RemoteFault):
    """A reply that is not JSON, not in form, or too long."""


class Limits(NamedTuple):
    """What a call may take."""

    timeout_s: float  # of one call
    retry_s: float  # of all that are made in its place
    concurrency: int  # calls at the same time


R = TypeVar("R", bound=Reply)
T = TypeVar("T")


class _Link(NamedTuple):
    session: aiohttp.ClientSession
    room: asyncio.Semaphore  # of calls
    room_for_farewells: asyncio.Semaphore  # of farewells, which hold up no call


class Client:
    """Calls servers from whichever event loop runs: each has its own connections.

    `name` is the environment's; `token_env` names the variable that holds a bearer token. The token is in the header of
    each call and nowhere else: where servers say it back it is masked in texts for people, and all else is a bad reply.
    """

    def __init__(self, name: str, servers: Servers, limits: Limits, token_env: str | None) -> None:
        self.name, self.servers, self.limits = name, servers, limits
        self._token_env = token_env
        self._links: WeakKeyDictionary[asyncio.AbstractEventLoop, _Link] = WeakKeyDictionary()
        self._farewells = set[asyncio.Task[None]]()  # that nobody waits for
        self._jitter = random.Random()  # our own: the global generator is left alone

    def token(self) -> str | None:
        """Read the token; None: there is none. Raises EnvironmentFault if the variable holds none that can be sent."""
        if self._token_env is None:
            return None
        token = os.environ.get(self._token_env, "").strip()  # a line's end is what files give
        if not token:
            raise EnvironmentFault(
                f"environment {self.name}: `token_env` names {self._token_env}, which is not set here: set it"
                f" (for scoring processes also `scoring: {{env: [{self._token_env}]}}`)"
            )
        if not (token.isascii() and token.isprintable()):
            raise EnvironmentFault(
                f"environment {self.name}: {self._token_env} (`token_env`) holds what is no token: a character that is"
                " not ASCII, or not printable"
            )
        if len(token) < LEAST_TOKEN:
            raise EnvironmentFault(
                f"environment {self.name}: {self._token_env} (`token_env`) holds a token of fewer than {LEAST_TOKEN}"
                " characters, which replies may hold by chance: take a longer one"
            )
        return token

    async def call(
        self,
        reply: type[R],
        method: str,
        url: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> R:
        """Call a server once; raises Unanswered, Refused, BadReply, or RemoteFault."""
        data, _ = await self.exchange(method, url, path, body, query, cookies, timeout_s)
        return self.read(reply, data)

    def read(self, reply: type[R], data: bytes) -> R:
        """Read a reply of a server; raises BadReply where it is not in form, or holds the token."""
        token = self.token()
        try:
            found = reply.model_validate_json(data, context={"token": token})
        except ValidationError as error:
            raise BadReply(f"{BAD_REPLY}: {_fault(error)}") from None
        if token and _holds(found, token):
            raise BadReply(HOLDS_TOKEN)
        return found

    def read_text(self, data: bytes) -> str:
        """Read a reply that may be any text; raises BadReply where it is not UTF-8, or holds the token."""
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise BadReply(f"{BAD_REPLY}: not UTF-8") from None
        if token := self.token():
            with suppress(ValueError, RecursionError):  # JSON, which has other ways to write it
                if _holds(json.loads(text), token):
                    raise BadReply(HOLDS_TOKEN)
            if token in text:
                raise BadReply(HOLDS_TOKEN)
        return text

    async def exchange(
        self,
        method: str,
        url: str,
        path: str,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        *,
        reads_errors: bool = False,
    ) -> tuple[bytes, dict[str, str]]:
        """Call a server once; give the body of its reply, and the cookies that it sets.

        With `reads_errors` a reply of status 400 and above is one too, as a tool's to a mistake. That the server is
        busy or cannot be reached (429, 502 to 504), or refuses our token, is a failure all the same.
        """
        token, link = self.token(), self._link()
        limit = aiohttp.ClientTimeout(total=timeout_s or self.limits.timeout_s, sock_connect=CONNECT_S)
        what: dict[str, Any] = {"headers": _headers(token), "params": query, "cookies": cookies, "timeout": limit}
        if body is not None:
            what["json"] = body
        try:
            async with link.room:
                with self.servers.asked(url):
                    async with link.session.request(method, url + path, allow_redirects=False, **what) as response:
                        data = await _read(response)
                        status, again_s = response.status, _seconds(response.headers.get("Retry-After"))
                        set_cookies = {name: morsel.value for name, morsel in response.cookies.items()}
        except NO_ANSWER as error:
            raise self._no_answer(url, error, timeout_s) from None
        if status in UNAVAILABLE:
            raise self.unanswered(url, f"unavailable ({status})", again_s)
        self.servers.answered(url)
        if status == BUSY:
            raise self._busy(url, again_s)
        if not reads_errors or status < 400 or (token and status in TOKEN_REFUSED_BY):
            _require_success(status, data, token)
        return data, set_cookies

    async def call_any(self, reply: type[R], method: str, path: str, body: Any = None, **more: Any) -> tuple[str, R]:
        """Call whichever server answers, again and elsewhere for causes that may pass; also which it was."""

        async def call(url: str) -> R:
            return await self.call(reply, method, url, path, body, **more)

        return await self.anywhere(call)

    async def begin(self, work: Callable[[str], Awaitable[T]]) -> tuple[str, T]:
        """Begin an episode as `anywhere` does; where it finds no room, people are told what may be the cause."""
        try:
            return await self.anywhere(work)
        except NoRoom:
            self.servers.full(self.limits.retry_s)
            raise

    async def anywhere(self, work: Callable[[str], Awaitable[T]]) -> tuple[str, T]:
        """Do a work at whichever server lets it; where none answers, at all of them again; also at which it was.

        A pause comes when all were asked, as long as they ask for, and not before. A server that answers otherwise than
        it should is not asked again, but the others are: it may have been replaced by something else, have lost our
        token, or be the only one that is broken. Raises what the work did where all answer so; RemoteFault, "no server:
        ...", where none answers within the time for retries. Where it is known that none does, only what was under way
        waits: a call that failed, an episode that was lost.
        """
        until, pause = time.monotonic() + self.limits.retry_s, FIRST_PAUSE_S
        faults, tried = dict[str, RemoteFault](), set[str]()  # by server; who is unanswered in this round
        cause: RemoteFault | None = LOST.get()
        while True:
            wait_s = 0.0
            try:
                url = self.servers.pick({*faults, *tried})
            except RemoteFault as none:
                if cause is None and isinstance(none, Resting):
                    cause = Busy(str(none)) if none.is_busy else Unanswered(str(none))
                if faults and (cause is None or faults.keys() >= set(self.servers.urls())):
                    raise list(faults.values())[-1] from None
                if cause is None:
                    raise
                wait_s = max(self.servers.next_s(faults), pause * (1 + self._jitter.random() / 2))
                pause = min(MOST_PAUSE_S, 2 * pause)
                tried.clear()
            else:
                self.servers.load(url, 1)
                try:
                    done = await work(url)
                    self.servers.busy(url, False)
                    return url, done
                except Unanswered as unanswered:
                    self.servers.busy(url, isinstance(unanswered, Busy))
                    cause = unanswered
                    tried.add(url)
                except RemoteFault as fault:
                    self.servers.failed(url, str(fault))
                    faults[url] = fault
                    continue
                finally:
                    self.servers.load(url, -1)
            if time.monotonic() + wait_s > until:
                raise (NoRoom if isinstance(cause, Busy) else RemoteFault)(f"no server: {cause}") from None
            await asyncio.sleep(wait_s)

    async def socket(self, url: str, path: str) -> aiohttp.ClientWebSocketResponse:
        """Open a WebSocket at a server, which is no answer of it yet; raises Unanswered, or Refused."""
        token = self.token()
        try:
            async with asyncio.timeout(self.limits.timeout_s):
                opened = await self._link().session.ws_connect(
                    url + path,
                    headers=_headers(token),
                    max_msg_size=MOST_BYTES,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_S),
                    heartbeat=HEARTBEAT_S,
                )
        except aiohttp.WSServerHandshakeError as error:
            again_s = _seconds(error.headers.get("Retry-After") if error.headers else None)
            if error.status in UNAVAILABLE:
                raise self.unanswered(url, f"unavailable ({error.status})", again_s) from None
            self.servers.answered(url)
            if error.status == BUSY:
                raise self._busy(url, again_s) from None
            if error.status in TOKEN_REFUSED_BY:
                raise TokenRefused(error.status) from None
            raise Refused(error.status, "no WebSocket") from None
        except NO_ANSWER as error:
            raise self._no_answer(url, error) from None
        return opened

    async def farewell(self, url: str, path: str) -> None:
        """Say that an episode is over; nobody waits for the reply, and no server is judged by it or for want of it.

        As many are under way as calls may be, beside these; more wait for their turn. That a server fails to take them
        is told once.
        """
        link, limit = self._link(), aiohttp.ClientTimeout(total=min(CLOSE_S, self.limits.timeout_s))
        try:
            headers = _headers(self.token())
            async with (
                link.room_for_farewells,
                link.session.delete(url + path, headers=headers, allow_redirects=False, timeout=limit) as reply,
            ):
                if reply.status >= 500:
                    self.servers.farewell_failed(url, f"{reply.status}")
        except NO_ANSWER as error:
            cause = TIMED_OUT if isinstance(error, TimeoutError) else _cause(error)
            self.servers.farewell_failed(url, cause)
        except (EnvironmentFault, RuntimeError):  # no token any more; the connections are closed
            pass

    def soon(self, farewell: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Say farewell beside everything else."""
        task = asyncio.get_running_loop().create_task(farewell)
        self._farewells.add(task)
        task.add_done_callback(self._farewells.discard)
        return task

    async def close(self) -> None:
        """Close the running loop's connections."""
        link = self._links.pop(asyncio.get_running_loop(), None)
        if link is not None:
            await link.session.close()

    def timed_out(self, url: str, timeout_s: float | None = None) -> TimedOut:
        """Note that a call took longer than it may; None: than `timeout_s` of the spec."""
        which = f"{self.limits.timeout_s:g} s (`timeout_s`)" if timeout_s is None else f"{timeout_s:g} s"
        cause = f"{TIMED_OUT} after {which}"
        self.servers.unanswered(url, cause)
        return TimedOut(cause)

    def unanswered(self, url: str, cause: str, again_s: float = 0.0) -> Unanswered:
        """Note that there was no answer, for a cause that may pass."""
        self.servers.unanswered(url, cause)
        if again_s:
            self.servers.rest(url, again_s, cause)
        return Unanswered(cause, again_s)

    def _no_answer(self, url: str, error: Exception, timeout_s: float | None = None) -> Unanswered:
        if isinstance(error, TimeoutError):  # first: aiohttp's are connection errors too
            is_connecting = isinstance(error, aiohttp.ConnectionTimeoutError)
            return self.timed_out(url, CONNECT_S if is_connecting else timeout_s)
        return self.unanswered(url, _cause(error))

    def _busy(self, url: str, again_s: float) -> Busy:
        if again_s:
            self.servers.rest(url, again_s, BUSY_SAID, is_busy=True)
        return Busy(BUSY_SAID, again_s)

    def _link(self) -> _Link:
        loop = asyncio.get_running_loop()
        if loop not in self._links:
            tracing = aiohttp.TraceConfig()
            tracing.on_request_redirect.append(_refuse_redirect)
            session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),  # episodes have cookies of their own, or none
                trace_configs=[tracing],
            )
            rooms = [asyncio.Semaphore(self.limits.concurrency) for _ in range(2)]
            self._links[loop] = _Link(session, *rooms)
        return self._links[loop]


async def _refuse_redirect(_session: object, _context: object, about: aiohttp.TraceRequestRedirectParams) -> None:
    """End the handshake of a WebSocket that is sent elsewhere: the library has no option for that."""
    response = about.response
    response.close()
    raise aiohttp.WSServerHandshakeError(
        response.request_info, response.history, status=response.status, headers=response.headers
    )


def _headers(token: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


async def _read(response: aiohttp.ClientResponse) -> bytes:
    data = bytearray()
    async for piece in response.content.iter_chunked(PIECE):
        data += piece
        if len(data) > MOST_BYTES:
            response.close()
            raise BadReply(f"{BAD_REPLY}: longer than {MOST_BYTES // 2**20} MiB")
    return bytes(data)


def _require_success(status: int, data: bytes, token: str | None) -> None:
    if status < 300:
        return
    if status in TOKEN_REFUSED_BY:
        raise TokenRefused(status)
    said = _said(data, token)
    if status >= 500:
        raise RemoteFault(f"failed: {status}{said and f' {said}'}")
    raise Refused(status, said)


class _Said(Reply):
    error: Said


def _said(data: bytes, token: str | None) -> str:
    """Read what a server says of a failure; empty if it says nothing in form."""
    try:
        return brief(_Said.model_validate_json(data, context={"token": token}).error, LONGEST_SAID)
    except ValidationError:
        return ""


def _holds(value: Any, token: str) -> bool:
    """Whether a token is in a reply, or in a part of one."""
    if isinstance(value, str):
        return token in value
    if isinstance(value, BaseModel):
        value = vars(value)
    if isinstance(value, dict):
        return any(_holds(part, token) for pair in value.items() for part in pair)
    return isinstance(value, list) and any(_holds(part, token) for part in value)


def _cause(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "host not found"
    if isinstance(error, aiohttp.ClientSSLError):
        return "TLS failed"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "connection refused"
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError | OSError):
        return "connection reset"
    return "connection broken"


def _seconds(header: str | None) -> float:
    """Read `Retry-After`, a number of seconds or a date, as seconds from now; anything else, or nothing, is 0."""
    if header is None or not header.isascii():
        return 0.0
    if header.isdecimal():
        return float(header)
    try:
        when = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return 0.0
    return max(0.0, (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - time.time())


def _fault(error: ValidationError) -> str:
    """Say what is wrong with a reply, in words that all replies with the same fault share."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return "not JSON"
    place = list[str]()
    for part in first["loc"]:
        place.append(part if isinstance(part, str) else "*")
        if part in _OPEN:
            break
    return f"{'.'.join(place) or 'it'}: {expected(first)}"


def expected(fault: Mapping[str, Any]) -> str:
    """Say what pydantic expected, without what it found instead, how many entries of a list included."""
    message = str(fault["msg"]).partition(" after validation")[0].removeprefix("Value error, ")
    return "is required" if fault["type"] == "missing" else f"{message[0].lower()}{message[1:]}"
