"""Jobs that no process has yet: in their order, found by environment."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import takewhile


class JobQueue:
    """Numbers of jobs, which grow as jobs come; one that waits again stands where it stood."""

    def __init__(self) -> None:
        self._numbers: dict[str, deque[int]] = {}  # by environment, ascending; none is empty

    def __bool__(self) -> bool:
        return bool(self._numbers)

    def add(self, environment: str, number: int) -> None:
        """Have a new job wait."""
        self._numbers.setdefault(environment, deque()).append(number)

    def put_back(self, jobs: Iterable[tuple[str, int]]) -> None:
        """Have jobs wait again."""
        for environment, number in jobs:
            own = self._numbers.setdefault(environment, deque())
            own.append(number)
            self._numbers[environment] = deque(sorted(own))

    def environments(self) -> list[str]:
        """Name those of which jobs wait, in the order of their first jobs."""
        return sorted(self._numbers, key=lambda name: self._numbers[name][0])

    def first(self, environment: str) -> int:
        """Give the first job of an environment, which goes on waiting."""
        return self._numbers[environment][0]

    def next_few(self, environment: str, num: int) -> list[int]:
        """Give the first job of an environment and those behind it that came as one of the next `num` jobs of all."""
        own = self._numbers.get(environment)
        return [] if own is None else list(takewhile(lambda number: number < own[0] + num, own))

    def remove(self, environment: str, number: int) -> bool:
        """Have a job wait no more; whether it did."""
        own = self._numbers.get(environment)
        if not own or number < own[0] or number not in own:
            return False
        own.remove(number)
        if not own:
            del self._numbers[environment]
        return True

    def clear(self) -> None:
        """Forget all."""
        self._numbers.clear()
