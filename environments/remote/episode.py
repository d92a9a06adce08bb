"""An episode at the server that began it: counted there while it lives, and once how it went."""

from __future__ import annotations

import asyncio
from abc import abstractmethod

from environments.contracts import EpisodeLost, RemoteEpisode, RemoteFault, Turn
from environments.remote.client import BAD_REPLY, BadReply, Client
from environments.remote.replay import LEAVE_S

NO_SCORE = "no score"


class Gone(EpisodeLost):
    """An episode of which its server knows nothing any more, so that it needs no farewell."""


class ServedEpisode(RemoteEpisode):
    """Base of the protocols' episodes.

    A server is judged by whole episodes, not by single calls: one that begins them well and scores none is no better
    than one that begins none. It did well if an episode is scored, or was cut off after turns without a fault.

    `name` is what tells it from others at its server; None: nothing else is asked by the same connection. Raises
    BadReply where another that lives has it, as the turns of both would be mixed up.
    """

    def __init__(self, client: Client, url: str, name: str | None) -> None:
        if name is not None and not client.servers.claim(url, name):
            raise BadReply(f"{BAD_REPLY}: it begins an episode by the name of one that lives")
        self._client, self._servers, self._url, self._name = client, client.servers, url, name
        self._num_turns, self._is_over, self._is_judged = 0, False, False
        self._servers.load(url, 1)

    async def step(self, completion: str) -> Turn:
        """Ask for the turn of a completion."""
        try:
            turn = await self._answer(completion)
        except RemoteFault as fault:
            self._judge(str(fault))
            if isinstance(fault, EpisodeLost):
                self._end()
                await self._leave_place(is_over=isinstance(fault, Gone))
            raise
        self._num_turns += 1
        if turn.done:
            is_scored = turn.score is not None and turn.score.value is not None
            self._judge(None if is_scored else (turn.score and turn.score.reason) or NO_SCORE)
            self._end()
            self._release()
        return turn

    async def close(self) -> None:
        """Let the server forget it."""
        was_over = self._is_over
        self._end()
        if self._num_turns:
            self._judge(None)
        await self._leave(was_over)

    @abstractmethod
    async def _answer(self, completion: str) -> Turn:
        """Ask the server for a turn; raises what `step` does."""

    async def _part(self, is_over: bool) -> None:
        """Tell the server; `is_over`: it has ended the episode, or lost it."""

    async def _leave(self, is_over: bool) -> None:
        try:
            await self._part(is_over)
        finally:  # not before: a farewell would end another of that name
            self._release()

    async def _leave_place(self, is_over: bool) -> None:
        """Leave beside everything else, and wait a moment for that: another is begun, which may want the place."""
        await asyncio.wait([self._client.soon(self._leave(is_over))], timeout=LEAVE_S)

    def _judge(self, fault: str | None) -> None:
        if self._is_judged:
            return
        self._is_judged = True
        if fault is None:
            self._servers.succeeded(self._url)
        else:
            self._servers.failed(self._url, fault)

    def _release(self) -> None:
        if self._name is not None:
            self._servers.release(self._url, self._name)
            self._name = None

    def _end(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._servers.load(self._url, -1)
