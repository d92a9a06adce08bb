"""Ctrl-C and SIGTERM: the first asks, the second Ctrl-C kills."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Signalled:
    """Which signal asked the run to stop, if any did."""

    name: str | None = None


@contextmanager
def catching_signals() -> Iterator[Signalled]:
    """Note the first SIGINT or SIGTERM inside the block; a second SIGINT raises KeyboardInterrupt.

    Python delivers signals to the main thread only: elsewhere the block changes nothing.
    """
    signalled = Signalled()
    if threading.current_thread() is not threading.main_thread():
        yield signalled
        return

    def note(number: int, frame: FrameType | None) -> None:
        if signalled.name and number == signal.SIGINT:
            raise KeyboardInterrupt
        signalled.name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        os.write(2, b"\nStopping once this step is saved; Ctrl-C again kills.\n")  # safe in a handler

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signalled
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
