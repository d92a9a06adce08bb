"""Episodes under way, kept by whoever plays them: a turn is one step, and not all steps before it once more."""

from __future__ import annotations

import threading
from typing import NamedTuple

from environments.contracts import Environment, Episode, Task

MOST_KEPT = 2048  # the one that was asked for longest ago is forgotten first; a batch that is larger is replayed


class KeptEpisode(NamedTuple):
    """An episode that is not over, and what it has heard."""

    environment: Environment
    task: Task
    heard: tuple[str, ...]
    episode: Episode

    def goes_on(self, environment: Environment, task: Task, completions: tuple[str, ...]) -> bool:
        """Whether completions of a task begin with what was heard, and go on."""
        own, num = self.task, len(self.heard)
        return (
            self.environment is environment
            and (own.environment, own.category, own.index) == (task.environment, task.category, task.index)
            and own.messages == task.messages
            and num < len(completions)
            and self.heard == completions[:num]
        )


class KeptEpisodes:
    """What one process keeps, by environment and name. An episode is taken out to be played, by one thread at a time.

    Nothing rests on it: an episode that is not kept is started anew and hears the earlier completions again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str], KeptEpisode] = {}  # the one that was asked for last stands last

    def __len__(self) -> int:
        return len(self._kept)

    def take(self, name: str, environment: Environment, task: Task, completions: tuple[str, ...]) -> KeptEpisode | None:
        """Take out the episode of a name; None where there is none that these completions go on with."""
        with self._lock:
            kept = self._kept.pop((task.environment, name), None)
        return kept if kept is not None and kept.goes_on(environment, task, completions) else None

    def keep(self, name: str, kept: KeptEpisode) -> None:
        """Keep an episode under a name."""
        forgotten = list[KeptEpisode]()  # let go without the lock: foreign code may run as they go
        with self._lock:
            key = (kept.task.environment, name)
            forgotten += filter(None, [self._kept.pop(key, None)])
            self._kept[key] = kept
            while len(self._kept) > MOST_KEPT:
                forgotten.append(self._kept.pop(next(iter(self._kept))))

    def forget(self, environment: str, name: str) -> None:
        """Forget the episode of a name, if there is one."""
        with self._lock:
            forgotten = [self._kept.pop((environment, name), None)]
        forgotten.clear()

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            forgotten, self._kept = self._kept, {}
        forgotten.clear()
