"""Weights on their way to servers: a directory a version, durable and checked before any server hears of it.

A server that is given a directory it cannot read does not refuse it, it dies. So a directory is filled aside, made
durable and renamed, and its files are read against its manifest each time before it is named to a server.

Each sampler has a folder of its own, and holds it by a lock of the kernel's on the file `owner` there, so that whoever
comes next knows which folders nobody uses any more.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open

from policies.errors import CheckpointError, PolicyError

PREFIX, OWNER = "evergreen-weights-", "owner"  # of a sampler's folder; the file there that is locked
MANIFEST = "manifest.json"
KEPT = 2  # directories: the one that servers play, and the one before, which a late server may be reading

Shapes = dict[str, list[int]]


class WeightFiles:
    """The newest directories of one sampler, below a folder that the servers can read too, or a temporary one."""

    def __init__(self, shared: Path | None) -> None:
        self._parent = (shared or Path(tempfile.gettempdir())).absolute()
        self._mode = 0o700 if shared is None else 0o777  # less the umask
        self._own: Path | None = None
        self._lock: int | None = None
        self._kept: list[Path] = []

    def put(self, save: Callable[[Path], object], label: str) -> Path:
        """Have weights saved in a new directory of this name; the oldest beyond two goes.

        The first time, so does what processes of this host left that have ended without closing.
        """
        try:
            if self._own is None:
                self._parent.mkdir(parents=True, exist_ok=True)
                remove_left(self._parent)
                self._own = self._parent / f"{PREFIX}{secrets.token_hex(4)}"
                self._own.mkdir(self._mode)
                self._lock = _claim(self._own)
            folder = self._own / label
            write(save, folder)
        except (OSError, SafetensorError) as failed:  # the second says a full disk in words only
            raise PolicyError(
                f"the weights cannot be written for the servers: {failed}. sampler.weights names the folder; it needs "
                f"room for {KEPT + 1} copies of the policy"
            ) from failed
        self._kept.append(folder)
        while len(self._kept) > KEPT:
            shutil.rmtree(self._kept.pop(0), ignore_errors=True)
        return folder

    def close(self) -> None:
        """Remove what is left of it."""
        if self._own is not None:
            shutil.rmtree(self._own, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
        self._own = self._lock = None
        self._kept.clear()


def remove_left(parent: Path) -> None:
    """Remove the folders of samplers whose process, on this host, has ended."""
    for owner in parent.glob(f"{PREFIX}*/{OWNER}"):
        if _is_ownerless(owner):
            shutil.rmtree(owner.parent, ignore_errors=True)


def _claim(folder: Path) -> int | None:
    """Hold a folder until the descriptor is closed; None: there are no locks here, and nobody removes it for us."""
    aside = folder / f".aside-{OWNER}"
    descriptor = os.open(aside, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        aside.unlink()
        return None
    os.write(descriptor, socket.gethostname().encode())
    aside.rename(folder / OWNER)  # it is locked from the first moment that others see it
    return descriptor


def _is_ownerless(owner: Path) -> bool:
    """Whether nobody of this host holds a lock any more; those of other hosts may not be seen here."""
    try:
        if owner.read_text() != socket.gethostname():
            return False
        descriptor = os.open(owner, os.O_RDONLY)
    except (OSError, UnicodeDecodeError):  # another user's, or gone by now
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def write(save: Callable[[Path], object], folder: Path) -> None:
    """Have weights saved as safetensors in a directory that appears whole or not at all."""
    aside = folder.with_name(f".aside-{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        save(aside)
        found = {file.name: _shapes(file) for file in sorted(aside.glob("*.safetensors"))}
        (aside / MANIFEST).write_text(json.dumps(found, indent=1))
        for entry in (*aside.iterdir(), aside):
            _fsync(entry)
        aside.rename(folder)
        _fsync(folder.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def require_valid(folder: Path) -> None:
    """Refuse a directory whose files do not hold what its manifest lists: a server given it would die of it."""
    try:
        meant: dict[str, Shapes] = json.loads((folder / MANIFEST).read_text())
        found = {file.name: _shapes(file) for file in sorted(folder.glob("*.safetensors"))}
    except (OSError, ValueError, SafetensorError) as broken:
        raise CheckpointError(
            f"the weights in {folder} are not whole, and are named to no server: {broken}"
        ) from broken
    if not meant or found != meant:
        wrong = [file for file in sorted({*meant, *found}) if meant.get(file) != found.get(file)]
        raise CheckpointError(
            f"the weights in {folder} are not those that were written there ({', '.join(wrong) or 'there are none'}), "
            "and are named to no server: something else writes to this folder"
        )


def _shapes(file: Path) -> Shapes:
    """Read names and shapes from a file's header; a file that was cut short is an error."""
    with safe_open(str(file), framework="pt") as tensors:
        return {name: list(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
