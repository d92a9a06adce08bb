"""Saying how far long work is: nothing for the first seconds, then a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable

EVERY_S = 2.0


class Throttle:
    """Passes words on to whoever listens, at most every `EVERY_S` seconds."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell, self._said_at = tell, time.monotonic()

    def is_time(self) -> bool:
        """Whether something should be said again."""
        return time.monotonic() - self._said_at > EVERY_S

    def __call__(self, text: str) -> None:
        """Say it."""
        self._said_at = time.monotonic()
        self._tell(text)
