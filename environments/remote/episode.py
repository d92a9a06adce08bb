"""An episode at the server that began it: counted there while it lives, and once how it went."""

from __future__ import annotations

from abc import abstractmethod

from environments.contracts import EpisodeLost, RemoteEpisode, RemoteFault, Turn
from environments.remote.servers import Servers

NO_SCORE = "no score"


class ServedEpisode(RemoteEpisode):
    """Base of the protocols' episodes.

    A server is judged by whole episodes, not by single calls: one that begins them well and scores none is no better
    than one that begins none. It did well if an episode is scored, or was cut off after turns without a fault.
    """

    def __init__(self, servers: Servers, url: str) -> None:
        self._servers, self._url = servers, url
        self._num_turns, self._is_over, self._is_judged = 0, False, False
        servers.load(url, 1)

    async def step(self, completion: str) -> Turn:
        """Ask for the turn of a completion."""
        try:
            turn = await self._answer(completion)
        except RemoteFault as fault:
            self._judge(str(fault))
            if isinstance(fault, EpisodeLost):
                self._end()
            raise
        self._num_turns += 1
        if turn.done:
            is_scored = turn.score is not None and turn.score.value is not None
            self._judge(None if is_scored else (turn.score and turn.score.reason) or NO_SCORE)
            self._end()
        return turn

    async def close(self) -> None:
        """Let the server forget it."""
        was_over = self._is_over
        self._end()
        if self._num_turns:
            self._judge(None)
        await self._part(was_over)

    @abstractmethod
    async def _answer(self, completion: str) -> Turn:
        """Ask the server for a turn; raises what `step` does."""

    async def _part(self, is_over: bool) -> None:
        """Tell the server; `is_over`: it has ended the episode, or lost it."""

    def _judge(self, fault: str | None) -> None:
        if self._is_judged:
            return
        self._is_judged = True
        if fault is None:
            self._servers.succeeded(self._url)
        else:
            self._servers.failed(self._url, fault)

    def _end(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._servers.load(self._url, -1)
