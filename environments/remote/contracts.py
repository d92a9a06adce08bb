"""What a protocol has to tell and do: one file of this folder each, all on the same client."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from environments.contracts import Category, Message, RemoteEpisode, Task


@dataclass(frozen=True)
class Description:
    """What an environment says of itself, the same from all of its servers."""

    version: str
    categories: tuple[Category, ...]
    sizes: tuple[int | None, ...]  # of the categories
    lease_s: float
    max_tokens: int | None = None
    max_prompt_tokens: int | None = None
    symbols: tuple[str, ...] = ()
    remarks: tuple[str, ...] = field(default=(), compare=False)  # for people


@dataclass(frozen=True)
class TaskText:
    """What a task says; its category and index are who asked for it."""

    messages: tuple[Message, ...]
    answer: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)  # what an episode begins with, beside


class Protocol(ABC):
    """A way to talk with a server; its methods raise RemoteFault, and EnvironmentFault where no retry can help."""

    page: int = 64  # tasks that are asked for at once

    @abstractmethod
    async def describe(self) -> Description:
        """Ask the servers what they are."""

    @abstractmethod
    async def tasks(self, category: str, start: int, num: int) -> Sequence[TaskText]:
        """Get tasks from an index on: so many, or fewer, but at least one."""

    @abstractmethod
    async def begin(self, task: Task) -> RemoteEpisode:
        """Begin an episode."""
