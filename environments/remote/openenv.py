"""OpenEnv's protocol (meta-pytorch/OpenEnv): `POST /reset` makes tasks, a WebSocket is an episode.

Over plain HTTP its servers make a new environment for every call, so episodes are played at `/ws`: one connection
each, `reset`, `step`, `close`. A task is a seed: an environment whose reset does not depend on the seed alone breaks
the contract and is refused. There is no place for tools over MCP, production mode and `/state`. Read from its source
(`env_server/http_server.py`, `types.py`, `serialization.py`), and played with a server of openenv-core 0.3.0.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal

import aiohttp
from pydantic import Field, ValidationError, model_validator

from environments.contracts import (
    Category,
    EnvironmentFault,
    EpisodeLost,
    Message,
    RemoteEpisode,
    RemoteFault,
    ServersAway,
    Task,
    Turn,
)
from environments.display import brief
from environments.options import Options
from environments.remote.client import (
    BAD_REPLY,
    LONGEST_SAID,
    MOST_BYTES,
    BadReply,
    Busy,
    Client,
    Refused,
    Reply,
    Said,
    TokenRefused,
    expected,
)
from environments.remote.contracts import Description, Protocol, TaskText
from environments.remote.episode import ServedEpisode
from environments.remote.rewards import Range, score_of

BEGINS_OTHERWISE = "the episode begins otherwise than its task"
LEASE_S = 300.0  # its servers have no lease unless they are given one
SEEDS = 8  # that are looked at: where all begin alike, they are the same task
CAPACITY_REACHED, BAD_ACTION = "CAPACITY_REACHED", "VALIDATION_ERROR"


class OpenEnvOptions(Options):
    """What OpenEnv's servers do not say of themselves."""

    action: str = Field(default="message", min_length=1)
    """Field of the action that holds the policy's reply."""
    action_with: dict[str, Any] = Field(default_factory=dict)
    """Other fields of the action, the same in every turn."""
    observation: str | None = None
    """Field of the observation that the policy reads; null: all of it, as JSON."""
    system: str | None = None
    """System prompt, as observations seldom say what is asked; null: none."""
    categories: dict[str, dict[str, Any]] = Field(default={"all": {}}, min_length=1)
    """Category: what `reset` is given beside the seed."""
    tasks: int = Field(default=1000, ge=1)
    """Seeds of each category: a task each."""
    numbered: bool = False
    """Whether prompts say which number the game has: for games that begin alike, as one that hides a word does. Without
    it those are one task."""
    reward: Literal["last", "sum"] = "last"
    """What an episode is worth: the reward of its last turn, or of all its turns together."""
    worth: Range = (0.0, 1.0)
    """Rewards that are worth 0 and 1; what lies outside is unscorable."""

    @model_validator(mode="after")
    def _has_a_range(self) -> OpenEnvOptions:
        if not self.worth[0] < self.worth[1]:
            raise ValueError("`worth` is [what is worth 0, what is worth 1], the lower first")
        return self


class _Observed(Reply):
    observation: dict[str, Any]
    reward: float | bool | None = None
    done: bool = False


class _Metadata(Reply):
    name: str
    version: str | None = None


class _Kind(Reply):
    type: str


class _Answer(Reply):
    data: dict[str, Any]


class _Trouble(Reply):
    code: Said = ""
    message: Said = ""


class _Error(Reply):
    data: _Trouble


class OpenEnvProtocol(Protocol):
    """Servers of OpenEnv in simulation mode."""

    page = 8  # each is a reset

    def __init__(self, client: Client, options: OpenEnvOptions) -> None:
        self._client, self._options = client, options

    async def describe(self) -> Description:
        """Ask what it is, and whether its tasks depend on their seeds alone."""
        name, options = self._client.name, self._options
        try:
            url, said = await self._client.call_any(_Metadata, "GET", "/metadata")
            category = next(iter(options.categories))
            first, again = [await self._reset(category, 0) for _ in range(2)]
            seeds = () if options.numbered else range(1, min(SEEDS, options.tasks))
            others = await asyncio.gather(*(self._reset(category, seed) for seed in seeds))
        except TokenRefused as refused:
            raise refused.fault(name, "a server") from None
        except RemoteFault as fault:
            raise ServersAway(
                f"environment {name}: no server of OpenEnv in simulation mode answers ({fault})"
            ) from None
        if first != again:
            raise EnvironmentFault(
                f"environment {name}: {url} begins otherwise each time it is reset with seed 0, so that there are no"
                " tasks to come back to: let `reset` depend on its seed alone"
            )
        if others and {first} == set(others):
            raise EnvironmentFault(
                f"environment {name}: {url} begins alike with the seeds 0 to {len(others)}, so that its tasks are one:"
                " say `openenv.numbered: true`, and prompts have the number of the game, or let `reset` show what"
                " differs"
            )
        since = set() if options.numbered else {"numbered"}  # without it prompts are those of before there was one
        digest = hashlib.sha256(options.model_dump_json(exclude=since).encode()).hexdigest()[:12]
        categories = tuple(Category(one, parameters=reset) for one, reset in options.categories.items())
        sizes = (options.tasks,) * len(categories)
        return Description(f"openenv+{said.version or 'none'}+{digest}", categories, sizes, LEASE_S)

    async def tasks(self, category: str, start: int, num: int) -> Sequence[TaskText]:
        """Reset once for each task."""
        texts = await asyncio.gather(*(self._reset(category, index) for index in range(start, start + num)))
        return [TaskText(self._conversation(text, index)) for index, text in enumerate(texts, start)]

    async def begin(self, task: Task) -> RemoteEpisode:
        """Open a connection, which is an episode, and reset it."""
        _, episode = await self._client.begin(lambda url: self._begin(url, task))
        return episode

    async def _begin(self, url: str, task: Task) -> RemoteEpisode:
        socket = await self._client.socket(url, "/ws")
        episode = OpenEnvEpisode(self._client, url, socket, self._options)
        try:
            observed = await episode.ask("reset", self._seeded(task.category, task.index))
            if self._conversation(shown(observed.observation, self._options), task.index) != task.messages:
                raise RemoteFault(BEGINS_OTHERWISE)
        except EpisodeLost as lost:
            await episode.close()
            raise self._client.unanswered(url, str(lost)) from None
        except BaseException:
            await episode.close()
            raise
        return episode

    async def _reset(self, category: str, seed: int) -> str:
        _, observed = await self._client.call_any(_Observed, "POST", "/reset", self._seeded(category, seed))
        return shown(observed.observation, self._options)

    def _seeded(self, category: str, seed: int) -> dict[str, Any]:
        return {**self._options.categories[category], "seed": seed}

    def _conversation(self, text: str, index: int) -> tuple[Message, ...]:
        number = f"Game {index}.\n\n" if self._options.numbered else ""
        system, user = self._options.system, {"role": "user", "content": number + text}
        return ({"role": "system", "content": system}, user) if system else (user,)


def shown(observation: Mapping[str, Any], options: OpenEnvOptions) -> str:
    """Write an observation for the policy; raises BadReply where the field that is shown is missing."""
    if options.observation is None:
        return json.dumps(observation, ensure_ascii=False, sort_keys=True)
    if options.observation not in observation:
        raise BadReply(f"{BAD_REPLY}: observation.{options.observation}: missing")
    value = observation[options.observation]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


class OpenEnvEpisode(ServedEpisode):
    """An episode: a connection. With it the server loses the episode, and the other way round."""

    def __init__(
        self, client: Client, url: str, socket: aiohttp.ClientWebSocketResponse, options: OpenEnvOptions
    ) -> None:
        super().__init__(client, url, None)
        self._socket, self._options = socket, options
        self._return: float | None = None  # the sum of the rewards that came

    async def _answer(self, completion: str) -> Turn:
        """Send the reply as an action."""
        options = self._options
        observed = await self.ask("step", {**options.action_with, options.action: completion})
        reward = None if observed.reward is None else float(observed.reward)
        if options.reward == "sum":
            if reward is not None:
                self._return = (self._return or 0.0) + reward
            reward = self._return
        score = None if reward is None else score_of(reward, options.worth)
        if observed.done:
            return Turn((), score, done=True)
        return Turn(({"role": "user", "content": shown(observed.observation, options)},), score, done=False)

    async def ask(self, kind: str, data: Mapping[str, Any]) -> _Observed:
        """Send a message and read the observation that it is answered with."""
        try:
            async with asyncio.timeout(self._client.limits.timeout_s):
                with self._client.servers.asked(self._url):
                    await self._socket.send_json({"type": kind, "data": data})
                    heard = await self._socket.receive()
        except TimeoutError:
            raise RemoteFault(str(self._client.timed_out(self._url))) from None
        except (aiohttp.ClientError, OSError):
            raise EpisodeLost("connection reset") from None
        if heard.type is aiohttp.WSMsgType.ERROR:  # a message that is too long
            raise BadReply(f"{BAD_REPLY}: longer than {MOST_BYTES // 2**20} MiB, or no WebSocket's")
        if heard.type is not aiohttp.WSMsgType.TEXT:
            raise EpisodeLost("connection closed")
        self._client.servers.answered(self._url)
        said = str(heard.data).encode()
        said_kind = self._client.read(_Kind, said).type
        if said_kind == "error":
            raise _fault(self._client.read(_Error, said).data)
        if said_kind != "observation":
            raise BadReply(f"{BAD_REPLY}: type: not observation")
        answer = self._client.read(_Answer, said)
        try:
            return _Observed.model_validate(answer.data)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            raise BadReply(f"{BAD_REPLY}: data.{first['loc'][0]}: {expected(first)}") from None

    async def _part(self, is_over: bool) -> None:
        """Say so and hang up, an episode that is over too."""
        if self._socket.closed:
            return
        with suppress(aiohttp.ClientError, OSError, RuntimeError):
            await self._socket.send_json({"type": "close"})
            await self._socket.close()


def _fault(trouble: _Trouble) -> RemoteFault:
    """Tell a server's errors apart by their code."""
    code, said = brief(trouble.code, LONGEST_SAID), brief(trouble.message, LONGEST_SAID)
    if trouble.code == CAPACITY_REACHED:
        return Busy("busy (CAPACITY_REACHED)")
    if trouble.code == BAD_ACTION:
        return Refused(422, code)
    return RemoteFault(f"failed: {code}{said and f' {said}'}")
