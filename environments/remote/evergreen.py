"""Evergreen's own protocol, version 1: docs/http_environments.md has every request and reply."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import AfterValidator, Field, StringConstraints

from environments.contracts import (
    Category,
    EnvironmentFault,
    EpisodeLost,
    Message,
    RemoteEpisode,
    RemoteFault,
    Score,
    ServersAway,
    Task,
    Turn,
)
from environments.remote.client import FIRST_PAUSE_S, Client, Refused, Reply, Said, TimedOut, TokenRefused, Unanswered
from environments.remote.contracts import Description, Protocol, TaskText
from environments.remote.episode import Gone, ServedEpisode

PROTOCOL = 1
REPEATS = 2  # of a turn at the same server, before the episode is begun elsewhere
UNKNOWN, OTHER_TURN, OVER = 404, 409, 410  # of an episode that does not go on at its server
DESCRIBE_S = 10.0
OTHER_VERSION = "a server has another version now"

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
EpisodeId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.~-]{1,200}$")]
Count = Annotated[int, Field(ge=1, le=2**53)]  # as far as all who write JSON count exactly


def _finite(parameters: dict[str, Any]) -> dict[str, Any]:
    """Refuse what `Reply` refuses where types are said; with NaN two equal descriptions would differ."""
    try:
        json.dumps(parameters, allow_nan=False)
    except ValueError:
        raise ValueError("numbers should be finite") from None
    return parameters


class MessageReply(Reply):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str

    def message(self) -> Message:
        """Give it as the contract has it."""
        return {"role": self.role, "content": self.content}


class CategoryReply(Reply):
    """A category of `GET /environment`."""

    name: Name
    size: Count | None
    trainable: bool = True
    parameters: Annotated[dict[str, Any], AfterValidator(_finite)] = Field(default_factory=dict)


class DescriptionReply(Reply):
    """`GET /environment`."""

    protocol: int
    version: Name
    categories: Annotated[list[CategoryReply], Field(min_length=1)]
    lease_s: Annotated[float, Field(gt=0, le=86_400)] = 300.0
    max_tokens: Count | None = None
    max_prompt_tokens: Count | None = None
    symbols: list[str] = Field(default_factory=list)

    def description(self) -> Description:
        """Give it as all protocols do."""
        return Description(
            self.version,
            tuple(Category(one.name, one.trainable, one.parameters) for one in self.categories),
            tuple(one.size for one in self.categories),
            self.lease_s,
            self.max_tokens,
            self.max_prompt_tokens,
            tuple(self.symbols),
        )


class TaskReply(Reply):
    """A task of `GET /tasks`."""

    messages: Annotated[list[MessageReply], Field(min_length=1)]
    answer: str | None = None


class TasksReply(Reply):
    """`GET /tasks`."""

    tasks: Annotated[list[TaskReply], Field(min_length=1)]
    version: Name | None = None


class EpisodeReply(Reply):
    """`POST /episodes`."""

    episode: EpisodeId
    version: Name


class ScoreReply(Reply):
    """The score of a turn; its value is checked where all are."""

    value: float | None
    correct: bool | None = None
    components: dict[str, float] = Field(default_factory=dict)
    reason: Said | None = None

    def score(self) -> Score:
        """Give it as the contract has it."""
        if self.value is None:
            return Score.unscorable(self.reason or "no reason given")
        found = Score.of(self.value, self.correct)
        return found if found.value is None else Score(found.value, found.correct, self.components)


class TurnReply(Reply):
    """`POST /episodes/{episode}/turns`."""

    done: bool
    messages: list[MessageReply] = Field(default_factory=list)
    score: ScoreReply | None = None

    def turn(self) -> Turn:
        """Give it as the contract has it."""
        messages = tuple(one.message() for one in self.messages)
        return Turn(messages, None if self.score is None else self.score.score(), self.done)


class EvergreenProtocol(Protocol):
    """Servers that were written for us."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._description: Description | None = None  # None: nobody asked, as where episodes are scored alone

    async def describe(self) -> Description:
        """Ask every server that is listed; those that answer must say the same."""
        urls = self._client.servers.urls()
        asked = await asyncio.gather(*(self._describe(url) for url in urls))
        found = [(url, one) for url, one in zip(urls, asked, strict=True) if isinstance(one, Description)]
        silent = [f"{url} ({one})" for url, one in zip(urls, asked, strict=True) if not isinstance(one, Description)]
        name = self._client.name
        if not found:
            raise ServersAway(
                f"environment {name}: no server answers as one of environments at {', '.join(silent)}: start it, mend"
                " it or the URLs (examples/env_server.py is one to try: `python env_server.py PORT`)"
            )
        (first, description), *others = found
        for url, other in others:
            if other != description:
                raise EnvironmentFault(
                    f"environment {name}: {first} and {url} serve different environments (version {description.version}"
                    f" and {other.version}, or their categories): list servers of one environment"
                )
        self._description = description
        for url, _ in found:
            self._client.servers.vouch(url)
        remarks = tuple(f"does not answer and is tried again later: {one}" for one in silent)
        return Description(**{**vars(description), "remarks": remarks})

    async def tasks(self, category: str, start: int, num: int) -> Sequence[TaskText]:
        """Get a page of tasks of whichever server answers as one of this environment."""
        query = {"category": category, "start": str(start), "count": str(num)}
        _, page = await self._client.anywhere(lambda url: self._tasks(url, query))
        return [TaskText(tuple(one.message() for one in task.messages), task.answer) for task in page.tasks[:num]]

    async def begin(self, task: Task) -> RemoteEpisode:
        """Begin an episode where there are the fewest; a server of another version is none of ours."""
        _, episode = await self._client.begin(lambda url: self._begin(url, task))
        return episode

    async def _tasks(self, url: str, query: dict[str, str]) -> TasksReply:
        page = await self._client.call(TasksReply, "GET", url, "/tasks", query=query)
        if page.version is not None:
            self._require_version(page.version)
        elif self._description is not None and not self._client.servers.is_vouched(url):
            said = await self._client.call(DescriptionReply, "GET", url, "/environment", timeout_s=self._describe_s)
            if said.protocol != PROTOCOL or said.description() != self._description:
                raise RemoteFault(OTHER_VERSION)
            self._client.servers.vouch(url)
        return page

    async def _begin(self, url: str, task: Task) -> RemoteEpisode:
        asked = {"category": task.category, "index": task.index}
        reply = await self._client.call(EpisodeReply, "POST", url, "/episodes", asked)
        try:
            self._require_version(reply.version)
        except RemoteFault:
            self._client.soon(self._client.farewell(url, f"/episodes/{quote(reply.episode)}"))
            raise
        return EvergreenEpisode(self._client, url, reply.episode)

    def _require_version(self, version: str) -> None:
        if self._description is not None and version != self._description.version:
            raise RemoteFault(OTHER_VERSION)

    @property
    def _describe_s(self) -> float:
        return min(DESCRIBE_S, self._client.limits.timeout_s)

    async def _describe(self, url: str) -> Description | RemoteFault:
        name = self._client.name
        try:
            data, _ = await self._client.exchange("GET", url, "/environment", timeout_s=self._describe_s)
            spoken = self._client.read(_Spoken, data).protocol
            if spoken != PROTOCOL:
                raise EnvironmentFault(
                    f"environment {name}: {url} speaks version {spoken} of the protocol, this is version {PROTOCOL}:"
                    " take a server of that version"
                )
            return self._client.read(DescriptionReply, data).description()
        except TokenRefused as refused:
            raise refused.fault(name, url) from None
        except Refused as refused:
            raise EnvironmentFault(
                f"environment {name}: {url} has no environment for us (GET /environment: {refused}): is it the URL of a"
                " server of this protocol? docs/http_environments.md has it"
            ) from None
        except RemoteFault as fault:
            return fault


class _Spoken(Reply):
    protocol: int


class EvergreenEpisode(ServedEpisode):
    """An episode at the server that began it."""

    def __init__(self, client: Client, url: str, name: str) -> None:
        super().__init__(client, url, name)
        self._path = f"/episodes/{quote(name)}"
        self._asked: dict[str, Any] | None = None  # the last call

    async def _answer(self, completion: str) -> Turn:
        """Send a completion with its number: a server that has answered it already gives the same turn again."""
        self._asked = {"turn": self._num_turns, "completion": completion}
        return (await self._patient_call(self._asked)).turn()

    async def repeat(self) -> Turn | None:
        """Make the last call once more; a server that does not know the episode any more has not answered it twice."""
        if self._asked is None:
            return None
        try:
            return (await self._patient_call(self._asked)).turn()
        except EpisodeLost:
            return None

    async def _part(self, is_over: bool) -> None:
        if not is_over:
            await self._client.farewell(self._url, self._path)

    async def _patient_call(self, body: dict[str, Any]) -> TurnReply:
        pause = FIRST_PAUSE_S
        for repeat in range(REPEATS + 1):
            try:
                return await self._client.call(TurnReply, "POST", self._url, f"{self._path}/turns", body)
            except Refused as refused:
                if refused.status not in (UNKNOWN, OTHER_TURN, OVER):
                    raise
                how = EpisodeLost if refused.status == OTHER_TURN else Gone
                raise how(f"gone ({refused.status})") from None
            except TimedOut:
                raise
            except Unanswered as unanswered:
                is_long = unanswered.again_s > self._client.limits.retry_s
                if str(unanswered) == "connection refused":
                    raise Gone(str(unanswered)) from None
                if repeat == REPEATS or is_long:
                    raise EpisodeLost(str(unanswered)) from None
                await asyncio.sleep(max(pause, unanswered.again_s))
                pause *= 2
        raise AssertionError("the last repeat returns or raises")
