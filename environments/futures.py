"""Futures, waited for with something to do meanwhile: who waits long has to say what for."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from typing import TypeVar

from environments.contracts import Environment, RemoteEnvironment
from environments.display import Tell

T = TypeVar("T")

LONG_S = 5.0  # people are told of what takes longer
AGAIN_S = 30.0  # and once more after so long


def result_of(future: Future[T], meanwhile: Callable[[], None]) -> T:
    """Wait for a future; `meanwhile` is called in this thread, every `LONG_S` seconds until then."""
    while not wait([future], LONG_S).done:
        meanwhile()
    return future.result()


class Waiting:
    """Called by who waits for environments in servers: tells which of these keep it waiting, each now and then.

    Called in another thread than the one that made it, it tells nothing.
    """

    def __init__(self, environments: Iterable[Environment], tell: Tell) -> None:
        self._remote = [one for one in environments if isinstance(one, RemoteEnvironment)]
        self._tell, self._told_at, self._thread = tell, dict[str, float](), threading.get_ident()

    def __call__(self) -> None:
        """Tell of those that have not been told of for `AGAIN_S` seconds."""
        if threading.get_ident() != self._thread:
            return
        now = time.monotonic()
        for one in self._remote:
            if now - self._told_at.get(one.name, -math.inf) < AGAIN_S or (found := one.waits_for()) is None:
                continue
            self._told_at[one.name] = now
            self._tell(f"{one.name} waits: {found}")
