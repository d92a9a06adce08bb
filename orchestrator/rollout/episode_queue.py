"""Which episodes may begin: servers may have room for fewer of them than are played."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from environments import Environment, RemoteEnvironment
from orchestrator.rollout.live_episode import LiveEpisode


class EpisodeQueue:
    """Episodes in their order; those of an environment that has a limit wait until one of the same is over.

    When one begins changes nothing of what it plays.
    """

    def __init__(self, episodes: Sequence[LiveEpisode], environments: Mapping[str, Environment]) -> None:
        self._waiting: dict[str, deque[LiveEpisode]] = {}  # by environment
        self.first: list[LiveEpisode] = []  # that begin at once
        room: dict[str, int | None] = {}
        for episode in episodes:
            name = episode.task.environment
            if name not in room:
                room[name] = limit_of(environments[name])
            left = room[name]
            if left == 0:
                self._waiting.setdefault(name, deque()).append(episode)
                continue
            self.first.append(episode)
            room[name] = None if left is None else left - 1

    def after(self, ended: Sequence[LiveEpisode]) -> list[LiveEpisode]:
        """Give those that begin in the place of episodes that are over, each of which is told once."""
        waiting = (self._waiting.get(episode.task.environment) for episode in ended)
        return [own.popleft() for own in waiting if own]


def limit_of(environment: Environment) -> int | None:
    """Say how many episodes of an environment may be under way at once; None: as many as you like."""
    return environment.episodes_at_once if isinstance(environment, RemoteEnvironment) else None
