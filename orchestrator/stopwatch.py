"""Where the time of a step goes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class Stopwatch:
    """Seconds by part; `with watch("play"): ...` adds to one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.beside: dict[str, float] = {}  # what went on at the same time, in another thread
        self._start = time.perf_counter()

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Add the time of a block to a part."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - start

    @contextmanager
    def aside(self) -> Iterator[Stopwatch]:
        """Time a block with a watch of its own: it is no part of this one's total."""
        own = Stopwatch()
        try:
            yield own
        finally:
            self._start += own.total

    def elsewhere(self, seconds: Mapping[str, float]) -> None:
        """Note parts that another thread's watch measured: they are no part of this one's total."""
        for part, value in seconds.items():
            self.beside[part] = self.beside.get(part, 0.0) + value

    @property
    def total(self) -> float:
        """Seconds since the watch was made, without what was done aside."""
        return time.perf_counter() - self._start
