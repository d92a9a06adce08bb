"""Two locks that die with their holder: on making MLflow's database, and on sending a run."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from store.errors import TrackerError
from store.files import write_text
from store.lock import try_lock

LOCK, TURN = "tracker.lock", "tracker.turn"  # in a run's folder

_POLL_S = 0.1


@contextmanager
def locked(path: Path, wait_s: float, what: str) -> Iterator[None]:
    """Hold a file's lock (flock, so a killed process holds none). Raises `TrackerError` when it is not free in time."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        give_up_at = time.monotonic() + wait_s
        while not try_lock(descriptor):
            if time.monotonic() > give_up_at:
                raise TrackerError(f"Waited {wait_s:.0f} s for {what}; another process is still at it.")
            time.sleep(_POLL_S)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def turn(folder: Path, wait_s: float) -> Iterator[Callable[[], bool]]:
    """Take over the sending of a run; yields what says whether it has been taken over again.

    One process sends a run. The newest does: a resumed run's tracker must not wait for one whose MLflow is away.
    """
    token = uuid.uuid4().hex
    note = folder / TURN
    write_text(note, token)
    with locked(folder / LOCK, wait_s, f"the record of {folder.name}, which another tracker is sending"):
        yield lambda: note.read_text() == token


def is_sent_by_another(folder: Path) -> bool:
    """Whether some process is sending a run now."""
    if not (folder / LOCK).exists():
        return False
    descriptor = os.open(folder / LOCK, os.O_RDWR)
    try:
        return not try_lock(descriptor)
    finally:
        os.close(descriptor)
