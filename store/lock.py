"""One process a run: a lock that dies with its holder, and a note asking the holder to stop.

Locks are the kernel's (flock), so a killed process leaves none behind; the text in a run's file only says who holds it.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from store.errors import HomeError, RunBusy
from store.files import ASIDE

FILES = _LOCK, _STOP = "lock", "stop"  # in a run's folder
PROBE_S = 0.2  # `holder` takes a free lock for a moment: that must not keep anyone out
_held: set[int] = set()


def _let_go_in_child() -> None:
    """Close what a fork copied: a worker that outlives the trainer must not keep the run locked."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_let_go_in_child)


@contextmanager
def taking_turns(file: Path, wait: Callable[[], None], kind: int = fcntl.LOCK_EX) -> Iterator[int]:
    """Hold a file's lock while the block lasts, made if need be; `wait` is called between tries, and may raise."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    _held.add(descriptor)
    try:
        while not try_lock(descriptor, kind):
            wait()
        yield descriptor
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


@contextmanager
def entry_lock(entry: Path, wait: Callable[[], None], *, shared: bool = False) -> Iterator[None]:
    """Hold what a cache has under a name, or will have: alone, to write or delete it, or with others who read it.

    The lock's file is beside it, and only there while somebody holds it; `wait` as in `taking_turns`.
    """
    file, kind = entry.with_name(f"{ASIDE}{entry.name}.lock"), fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    while True:
        with taking_turns(file, wait, kind) as descriptor:
            if not _is_at(file, descriptor):  # deleted by who held it before: others may hold a new one
                continue
            try:
                yield
            finally:
                if try_lock(descriptor):  # the last of those who read
                    file.unlink(missing_ok=True)
            return


@contextmanager
def run_lock(run_folder: Path) -> Iterator[None]:
    """Hold a run while the block lasts. Raises `RunBusy`."""
    file, deadline = run_folder / _LOCK, time.monotonic() + PROBE_S

    def wait() -> None:
        if time.monotonic() >= deadline:
            raise RunBusy(
                f"The run {run_folder.name!r} is in use by {_holder_in(file)}. Wait for it, or ask it to stop with "
                f"`evergreen stop {run_folder.name}`."
            )
        time.sleep(0.01)

    with ExitStack() as stack:
        try:
            descriptor = stack.enter_context(taking_turns(file, wait))
        except OSError as failed:
            raise HomeError(f"The folder {run_folder} cannot be written to: {failed.strerror}.") from failed
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield


def holder(run_folder: Path) -> str | None:
    """Say who holds a run ("process 12 on host"), or None when nobody does. Needs no right to write."""
    file = run_folder / _LOCK
    return _holder_in(file) if is_locked(file) else None


def is_locked(file: Path) -> bool:
    """Whether some process holds a file's lock; one that is not there is held by nobody."""
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not try_lock(descriptor, fcntl.LOCK_SH)
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
    """Take an open file's lock if it is free."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(file: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False


def _holder_in(file: Path) -> str:
    return file.read_text("utf-8") or "another process"
