"""Ctrl-C and SIGTERM: the first asks, the second Ctrl-C kills."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

STOPPING = "Stopping once this step is saved; Ctrl-C again kills."


@dataclass
class Signalled:
    """Which signal asked the run to stop, if any did."""

    name: str | None = None


def say_stopping() -> None:
    """Say on stderr what the first signal does."""
    os.write(2, f"\n{STOPPING}\n".encode())  # safe in a handler, where print is not


@contextmanager
def catching_signals(heard: Callable[[], None] = say_stopping) -> Iterator[Signalled]:
    """Note the first SIGINT or SIGTERM inside the block; a second SIGINT raises KeyboardInterrupt.

    `heard` says so; it is called inside the handler, so it may write by `os.write` only. Python delivers signals to
    the main thread only: elsewhere the block changes nothing.
    """
    signalled = Signalled()
    if threading.current_thread() is not threading.main_thread():
        yield signalled
        return

    def note(number: int, frame: FrameType | None) -> None:
        if signalled.name and number == signal.SIGINT:
            raise KeyboardInterrupt
        signalled.name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        heard()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signalled
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
