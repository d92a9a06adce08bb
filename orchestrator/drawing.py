"""Drawing tasks: every training category is a stream without repeats, and the conductor holds the cursors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from environments import Environment, Task, TaskStream
from orchestrator import streams
from orchestrator.choosing import Slot
from orchestrator.errors import UserError


class Drawing:
    """The task streams of all trainable categories. Where each stands is its state."""

    def __init__(self, environments: Mapping[str, Environment], seed: int) -> None:
        self._streams = {
            (name, category.name): TaskStream(
                environment, category.name, streams.integer(seed, "tasks", name, category.name)
            )
            for name, environment in environments.items()
            for category in environment.categories
            if category.trainable
        }

    def draw(self, slots: Sequence[Slot]) -> list[Task]:
        """Draw a task for every slot; none twice in a batch while its category has others."""
        drawn: list[Task] = []
        seen: set[str] = set()
        for slot in slots:
            stream = self._streams[slot.environment, slot.category]
            (task,) = stream.draw(1, avoid=seen)
            seen.add(stream.environment.distinct(task))
            drawn.append(task)
        return drawn

    def state(self) -> dict[str, Any]:
        """Every cursor, as JSON."""
        return {f"{name}/{category}": s.state() for (name, category), s in self._streams.items()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state; an environment that joined since begins at its first task.

        Raises:
            UserError: a category that was drawn from is gone: the data of its environment has changed.
        """
        environments = {name for name, _ in self._streams}
        for key in state:
            name, _, category = key.partition("/")
            if name in environments and (name, category) not in self._streams:
                raise UserError(
                    f"environment {name} has no category {category!r} to train on any more, and the run has; put its"
                    " data back as it was, or begin a new run"
                )
        for (name, category), stream in self._streams.items():
            if f"{name}/{category}" in state:
                stream.load_state(state[f"{name}/{category}"])
