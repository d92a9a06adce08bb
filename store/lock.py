"""One process a run: a lock that dies with its holder, and a note asking the holder to stop."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from store.errors import HomeError, RunBusy

_LOCK, _STOP = "lock", "stop"
PROBE_S = 0.2  # `holder` takes a free lock for a moment: that must not keep anyone out
_held: set[int] = set()


def _let_go_in_child() -> None:
    """Close what a fork copied: a worker that outlives the trainer must not keep the run locked."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_let_go_in_child)


class RunLock:
    """Hold a run while the block lasts.

    The lock is the kernel's (flock), so a killed process leaves none behind; the text in the file only says
    who holds it. Raises `RunBusy`.
    """

    def __init__(self, run_folder: Path) -> None:
        self.run_folder = run_folder
        self._descriptor = -1

    def __enter__(self) -> RunLock:
        try:
            descriptor = os.open(self.run_folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as failed:
            raise HomeError(
                f"The folder {self.run_folder} cannot be written to: {failed.strerror}."
            ) from failed
        deadline = time.monotonic() + PROBE_S
        while not try_lock(descriptor):
            if time.monotonic() >= deadline:
                who = _read(descriptor)
                os.close(descriptor)
                raise RunBusy(
                    f"The run {self.run_folder.name!r} is in use by {who}. Wait for it, or ask it to stop with "
                    f"`evergreen stop {self.run_folder.name}`."
                )
            time.sleep(0.01)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        self._descriptor = descriptor
        _held.add(descriptor)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _held.discard(self._descriptor)
        os.close(self._descriptor)


@contextmanager
def taking_turns(file: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Hold a file's lock while the block lasts, made if need be; `wait` is called between tries, and may raise."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    _held.add(descriptor)
    try:
        while not try_lock(descriptor):
            wait()
        yield
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def holder(run_folder: Path) -> str | None:
    """Say who holds a run ("process 12 on host"), or None when nobody does. Needs no right to write."""
    try:
        descriptor = os.open(run_folder / _LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return None if try_lock(descriptor, fcntl.LOCK_SH) else _read(descriptor)
    finally:
        os.close(descriptor)


def request_stop(run_folder: Path) -> None:
    """Ask the process that runs this run to make a checkpoint and stop after its step."""
    (run_folder / _STOP).touch()


def stop_requested(run_folder: Path) -> bool:
    """Whether somebody asked. Cheap enough for every step."""
    return (run_folder / _STOP).exists()


def clear_stop(run_folder: Path) -> None:
    """Forget the request."""
    (run_folder / _STOP).unlink(missing_ok=True)


def try_lock(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    """Take an open file's lock if it is free; it goes with the descriptor, so a killed process holds none."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(descriptor: int) -> str:
    return os.pread(descriptor, 200, 0).decode() or "another process"
