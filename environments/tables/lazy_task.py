"""A task whose reference reply is worked out when somebody asks for it: finding one can cost a second."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from environments.contracts import Message, Task


class LazyTask(Task):
    """A task like any other; `answer` calls `recall`, once. Sent to another process it is a plain `Task`.

    Its `key` is given, as the index found it, so that drawing need not hash again.
    """

    _recall: Callable[[], str | None]

    def __init__(
        self,
        environment: str,
        category: str,
        index: int,
        messages: tuple[Message, ...],
        data: Mapping[str, Any],
        key: str,
        recall: Callable[[], str | None],
    ) -> None:
        # Not through Task.__init__, which would set `answer`; a frozen dataclass keeps its fields in __dict__.
        fields = {"environment": environment, "category": category, "index": index}
        self.__dict__.update(fields, messages=messages, data=data, key=key, _recall=recall)

    @cached_property
    def answer(self) -> str | None:
        """A reply that scores 1; None where the environment has none."""
        return self._recall()

    def __reduce__(self) -> tuple[type[Task], tuple[Any, ...]]:
        return Task, (self.environment, self.category, self.index, self.messages, self.answer, self.data)
