"""Http: episodes that live in a server, which answers over HTTP; a server takes 40 lines.

The server says what it is (version, categories, sizes), gives tasks by category and index, and plays episodes: begin,
turn, close. docs/http_environments.md has the protocol, examples/env_server.py a server. Episodes are played in the
trainer, many side by side. `protocol: nemo_gym` and `protocol: openenv` talk with servers of NeMo Gym and OpenEnv.
"""

from __future__ import annotations

import time
import weakref
from collections import OrderedDict
from functools import cached_property
from pathlib import Path
from sys import getsizeof
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from environments.contracts import (
    Category,
    EnvironmentFault,
    Episode,
    NoTasks,
    RemoteEnvironment,
    RemoteEpisode,
    RemoteFault,
    Task,
)
from environments.display import Tell
from environments.options import Options
from environments.remote.client import Client, Limits
from environments.remote.contracts import Description, Protocol, TaskText
from environments.remote.event_loop import EventLoop
from environments.remote.evergreen import EvergreenProtocol
from environments.remote.nemo_gym import NemoGymOptions, NemoGymProtocol
from environments.remote.openenv import OpenEnvOptions, OpenEnvProtocol
from environments.remote.replay import BlockingEpisode
from environments.remote.servers import Servers, read_urls, require_urls

SOURCE = "this project's protocol, docs/http_environments.md"

MOST_KEPT, MOST_KEPT_BYTES = 2**16, 2**28  # tasks, and their texts
WAIT_S = 1.0  # between two rounds of asking all servers for tasks
END_S = 1.0  # for connections to be closed


def _are_servers(urls: list[str]) -> list[str]:
    require_urls(urls)
    return urls


class Config(Options):
    """Options of an environment in servers."""

    protocol: Literal["evergreen", "nemo_gym", "openenv"] = "evergreen"
    """What the servers speak: this project's protocol, or that of NeMo Gym's resources servers, or of OpenEnv's."""
    urls: Annotated[list[str], Field(min_length=1), AfterValidator(_are_servers)] | None = None
    """The servers, all of the same environment, like `http://127.0.0.1:8400`; an episode stays with the one that began
    it. Null: those of `urls_file`."""
    urls_file: str | None = None
    """File of a URL a line in place of `urls`, relative to the spec's folder; read again while a run goes on, as
    servers come and go. Null: `urls` are all."""
    token_env: str | None = Field(default=None, pattern=r"^[A-Za-z_]\w*$")
    """Environment variable that holds a bearer token; null: none is sent."""
    timeout_s: float = Field(default=30.0, gt=0, le=86_400)
    """Seconds that one call may take."""
    retry_s: float = Field(default=30.0, ge=0, le=86_400)
    """Seconds for which a call is made again, of any server, where none can be reached or all are busy; and for which
    tasks are waited for by a run that has other environments to go on with, and by a check before anything runs."""
    patience_s: float = Field(default=600.0, ge=0, le=604_800)
    """Seconds for which tasks are waited for where no server answers and there is nothing else to train on."""
    concurrency: int = Field(default=256, ge=1, le=65_536)
    """Calls at the same time, and beside them as many goodbyes."""
    episodes_per_server: int | None = Field(default=None, ge=1, le=65_536)
    """Episodes that each server has room for: no more are under way at once, others begin as these end. Null: all of a
    batch are."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Budget of the policy's tokens over all turns; null: what the server says, or the sampler's."""
    max_prompt_tokens: int | None = Field(default=None, ge=1)
    """Tasks with longer prompts are left out; null: what the server says, or the sampler's."""

    nemo_gym: NemoGymOptions | None = None
    """Where the tasks of `protocol: nemo_gym` are; null: another protocol."""
    openenv: OpenEnvOptions | None = None
    """What an action and an observation of `protocol: openenv` are; null: the defaults, or another protocol."""

    @model_validator(mode="after")
    def _says_what_the_protocol_needs(self) -> Self:
        for name in ("nemo_gym", "openenv"):
            if getattr(self, name) is not None and self.protocol != name:
                raise ValueError(f"`{name}` is for `protocol: {name}`, not {self.protocol}")
        if self.protocol == "nemo_gym" and self.nemo_gym is None:
            raise ValueError("NeMo Gym's servers list no tasks: say which file has them, `nemo_gym: {tasks: FILE}`")
        return self

    @model_validator(mode="after")
    def _names_servers(self) -> Self:
        if (self.urls is None) == (self.urls_file is None):
            raise ValueError("say where the servers are: either `urls`, a list, or `urls_file`, a file of them")
        return self

    @property
    def variables(self) -> tuple[str, ...]:
        """The variable of the token."""
        return () if self.token_env is None else (self.token_env,)


class HttpEnvironment(RemoteEnvironment):
    """An environment as its servers describe it when it is first asked for; scoring asks for nothing but episodes."""

    def __init__(self, name: str, config: Config) -> None:
        self.name, self._config = name, config
        file = None if config.urls_file is None else Path(config.folder or ".") / config.urls_file
        servers = Servers(config.urls or (), file)
        if file is not None:
            try:
                read_urls(file)
            except EnvironmentFault as fault:
                raise EnvironmentFault(f"environment {name}: {fault}") from fault
        limits = Limits(config.timeout_s, config.retry_s, config.concurrency)
        self._client = Client(name, servers, limits, config.token_env)
        self._protocol = _protocol(config, self._client)
        self._kept: OrderedDict[tuple[str, int], TaskText] = OrderedDict()
        self._kept_bytes = 0

    def open(self, tell: Tell) -> None:
        """Ask the servers what they are."""
        _ = self._description

    @property
    def version(self) -> str:  # type: ignore[override]
        """What the servers say."""
        return self._description.version

    @property
    def lease_s(self) -> float:  # type: ignore[override]
        """What the servers say."""
        return self._description.lease_s

    @property
    def episodes_at_once(self) -> int | None:  # type: ignore[override]
        """As many as the servers have room for that are there now."""
        per_server = self._config.episodes_per_server
        return None if per_server is None else per_server * self._client.servers.num_there()

    @property
    def max_tokens(self) -> int | None:  # type: ignore[override]
        """The spec's, or what the servers say."""
        return self._config.max_tokens or self._description.max_tokens

    @property
    def max_prompt_tokens(self) -> int | None:  # type: ignore[override]
        """The spec's, or what the servers say."""
        return self._config.max_prompt_tokens or self._description.max_prompt_tokens

    @property
    def symbols(self) -> tuple[str, ...]:  # type: ignore[override]
        """What the servers say."""
        return self._description.symbols

    @property
    def remarks(self) -> tuple[str, ...]:  # type: ignore[override]
        """Servers that did not answer."""
        return self._description.remarks

    @property
    def categories(self) -> list[Category]:
        return list(self._description.categories)

    def size(self, category: str) -> int | None:
        return self._sizes[self._known(category)]

    def task(self, category: str, index: int) -> Task:
        """Give a task; a page of them is fetched at once, and the last that were asked for are kept."""
        size = self.size(category)
        if index < 0 or (size is not None and index >= size):
            raise EnvironmentFault(f"{self.name}: category {category!r} has no task {index}, only {size}")
        if (category, index) not in self._kept:
            start = index - index % self._protocol.page
            self._fetch(category, start, size)
            if (category, index) not in self._kept:  # the server gives shorter pages
                self._fetch(category, index, size)
        self._kept.move_to_end((category, index))
        text = self._kept[category, index]
        return Task(self.name, category, index, text.messages, text.answer, text.data)

    def start(self, task: Task) -> Episode:
        return BlockingEpisode(self, task, self._loop)

    async def begin(self, task: Task) -> RemoteEpisode:
        return await self._protocol.begin(task)

    async def close(self) -> None:
        await self._client.close()

    def take_news(self) -> list[str]:
        return self._client.servers.take_news()

    def waits_for(self) -> str | None:
        return self._client.servers.waits_for()

    def _fetch(self, category: str, start: int, size: int | None) -> None:
        patience_s = self._config.patience_s if self.is_needed else self._config.retry_s
        num, until = self._protocol.page, time.monotonic() + patience_s
        num = num if size is None else min(num, size - start)
        while True:
            try:
                found = self._loop.run(self._protocol.tasks(category, start, num), self.meanwhile)
                break
            except RemoteFault as fault:
                is_away = str(fault).startswith("no server")
                if not is_away or time.monotonic() > until:
                    which = f": {waits}" if is_away and (waits := self.waits_for()) else ""
                    raise NoTasks(
                        f"environment {self.name}: task {start} of category {category!r} cannot be had of its servers"
                        f" ({fault}){which}",
                        self.name,
                        None if is_away else category,
                        str(fault),
                    ) from fault
            self.meanwhile()
            time.sleep(WAIT_S)
        for offset, text in enumerate(found):
            if (before := self._kept.pop((category, start + offset), None)) is not None:
                self._kept_bytes -= _bytes(before)
            self._kept[category, start + offset] = text
            self._kept_bytes += _bytes(text)
        while len(self._kept) > len(found) and (len(self._kept) > MOST_KEPT or self._kept_bytes > MOST_KEPT_BYTES):
            self._kept_bytes -= _bytes(self._kept.popitem(last=False)[1])

    def _known(self, category: str) -> str:
        if category not in self._sizes:
            raise EnvironmentFault(f"{self.name} has no category {category!r}; it has: {', '.join(self._sizes)}")
        return category

    @cached_property
    def _sizes(self) -> dict[str, int | None]:
        description = self._description
        names = (category.name for category in description.categories)
        return dict(zip(names, description.sizes, strict=True))

    @cached_property
    def _description(self) -> Description:
        self._client.token()  # says so where its variable is not set
        return self._loop.run(self._protocol.describe(), self.meanwhile)

    @cached_property
    def _loop(self) -> EventLoop:
        loop = EventLoop(f"environment {self.name}")
        weakref.finalize(self, _end, loop, self._client)
        return loop


def _bytes(text: TaskText) -> int:
    """Say what a task's text takes; a row of a file is held anyhow."""
    return getsizeof(text.answer or "") + sum(getsizeof(message["content"]) for message in text.messages)


def _protocol(config: Config, client: Client) -> Protocol:
    if config.nemo_gym is not None:
        return NemoGymProtocol(client, config.nemo_gym, Path(config.folder or ".") / config.nemo_gym.tasks)
    if config.protocol == "openenv":
        return OpenEnvProtocol(client, config.openenv or OpenEnvOptions())
    return EvergreenProtocol(client)


def _end(loop: EventLoop, client: Client) -> None:
    """Close the connections of an environment that nobody holds any more, or when the process ends."""
    loop.close(client.close(), wait_s=END_S)


def create(name: str, config: Config) -> HttpEnvironment:
    return HttpEnvironment(name, config)
