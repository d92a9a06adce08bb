"""Futures, waited for with something to do meanwhile: who waits long has to say what for."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

T = TypeVar("T")

LONG_S = 5.0  # people are told of what takes longer
AGAIN_S = 30.0  # and once more after so long


def result_of(future: Future[T], meanwhile: Callable[[], None]) -> T:
    """Wait for a future; `meanwhile` is called in this thread, every `LONG_S` seconds until then."""
    while not wait([future], LONG_S).done:
        meanwhile()
    return future.result()
