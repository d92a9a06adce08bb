"""One episode in a server, as its player sees it: begun when first asked, begun anew and replayed where it is lost."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from contextvars import ContextVar

from environments.contracts import (
    Episode,
    EpisodeLost,
    Message,
    RemoteEnvironment,
    RemoteEpisode,
    RemoteFault,
    Score,
    Task,
    Turn,
)
from environments.remote.event_loop import EventLoop

LEAVE_S = 0.2  # for those that leave their places to an episode that begins

# Why the episode was lost in whose place one is begun; None: it is the first.
LOST: ContextVar[EpisodeLost | None] = ContextVar("LOST", default=None)

BEGINNINGS = 3  # of one turn: an episode that is lost again and again is given up
ENDS_EARLIER = "replayed, the episode ends earlier"
GOES_OTHERWISE = "replayed, the episode goes otherwise"


class RemotePlay:
    """An episode that knows what it has heard, and so what a new one in its place is to hear."""

    def __init__(self, environment: RemoteEnvironment, task: Task) -> None:
        self._environment, self._task = environment, task
        self._episode: RemoteEpisode | None = None
        self._heard: list[str] = []  # by the episode that lives
        self._known: list[tuple[str, tuple[Message, ...]]] = []  # completions and what was answered, by any of them

    @property
    def is_open(self) -> bool:
        """Whether an episode lives that was not closed."""
        return self._episode is not None

    def anew(self) -> RemotePlay:
        """Give one in the place of this, which may be closed: it is not begun, and knows what this one answered."""
        play = RemotePlay(self._environment, self._task)
        play._known = self._known
        return play

    async def begin(self) -> RemoteEpisode:
        """Begin an episode that has heard nothing yet."""
        self._episode, self._heard = await self._environment.begin(self._task), []
        return self._episode

    async def turn(self, completions: Sequence[str]) -> Turn:
        """Take the turn of the last completion after the others; raises RemoteFault where no server gives one."""
        why: EpisodeLost | None = None
        for _ in range(BEGINNINGS):
            before = LOST.set(why)
            try:
                return await self._turn(completions)
            except EpisodeLost as lost:
                self._episode, why = None, lost
            finally:
                LOST.reset(before)
        raise RemoteFault(f"episode lost: {why}")

    async def repeat(self) -> Turn | None:
        """Ask for the last turn once more; None: the episode is over, or its calls are made once."""
        return None if self._episode is None else await self._episode.repeat()

    async def close(self) -> None:
        """Let the server forget the episode."""
        episode, self._episode = self._episode, None
        if episode is not None:
            await episode.close()

    async def _turn(self, completions: Sequence[str]) -> Turn:
        *earlier, new = completions
        episode = self._episode
        if episode is None or self._heard != earlier:
            await self.close()
            episode = await self.begin()
            for number, completion in enumerate(earlier):
                await self._replay(episode, number, completion)
        turn = await episode.step(new)
        self._heard.append(new)
        self._known[len(earlier) :] = [(new, tuple(turn.messages))]
        return turn

    async def _replay(self, episode: RemoteEpisode, number: int, completion: str) -> None:
        turn = await episode.step(completion)
        self._heard.append(completion)
        if turn.done:
            raise RemoteFault(ENDS_EARLIER)
        known = self._known[number] if number < len(self._known) else None
        if known is not None and known[0] == completion and known[1] != tuple(turn.messages):
            raise RemoteFault(GOES_OTHERWISE)  # the policy has read something else
        self._known[number : number + 1] = [(completion, tuple(turn.messages))]


class BlockingEpisode(Episode):
    """An episode in a server, played by who has no event loop; what the server does not give is unscorable."""

    def __init__(self, environment: RemoteEnvironment, task: Task, loop: EventLoop) -> None:
        self.messages = task.messages
        self._play, self._loop = RemotePlay(environment, task), loop
        self._completions: list[str] = []
        # whoever plays it may stop in the middle
        weakref.finalize(self, _let_go, self._play, loop).atexit = False

    def step(self, completion: str) -> Turn:
        """Answer the policy's next completion."""
        self._completions.append(completion)
        return self._loop.run(self._step())

    def begin(self) -> None:
        """Begin it before its first turn; raises RemoteFault where no server does."""
        self._loop.run(self._play.begin())

    def repeat(self) -> Turn | None:
        """Ask for the last turn once more, as `RemotePlay` does; raises RemoteFault where the server gives none."""
        return self._loop.run(self._play.repeat())

    async def _step(self) -> Turn:
        try:
            turn = await self._play.turn(self._completions)
        except RemoteFault as fault:
            turn = Turn(score=Score.unscorable(str(fault)), done=True)
        if turn.done:
            await self._play.close()
        return turn


def _let_go(play: RemotePlay, loop: EventLoop) -> None:
    """Close an episode that nobody holds any more; where the loop is closed too, the server's lease ends it."""
    closing = play.close()
    try:
        loop.submit(closing)
    except RuntimeError:
        closing.close()
