"""Write aside, make it durable, then rename: a reader sees the old file or the new one, never half of one.

Used for every file that resume depends on. What a crash leaves behind starts with `.aside-`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ASIDE = ".aside-"


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file durably."""
    aside = _aside(path)
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as failed:
        _name(failed, path)
        raise
    finally:
        aside.unlink(missing_ok=True)
    fsync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replace a text file durably, as UTF-8."""
    write_bytes(path, text.encode())


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Fill a folder aside; when the block ends well it is durable and has taken the place of `path`.

    Its parent is made if need be. When the block raises, nothing is left and an older `path` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside, replaced = _aside(path), _aside(path.with_name(f"{path.name}-replaced"))
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        yield aside
        for entry in (*aside.rglob("*"), aside):
            fsync(entry)
        if path.exists():
            path.rename(replaced)
        aside.rename(path)
        fsync(path.parent)
    except OSError as failed:
        _name(failed, path)
        raise
    finally:
        for leftover in (aside, replaced):
            shutil.rmtree(leftover, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Delete a folder so that a crash on the way leaves a leftover rather than half a folder."""
    doomed = _aside(path.with_name(f"{path.name}-removed"))
    path.rename(doomed)
    shutil.rmtree(doomed)


def remove_leftovers(parent: Path) -> None:
    """Delete what crashed writers left in a folder; only for a folder that this process alone writes to."""
    for entry in sorted(parent.glob(f"{ASIDE}*")):
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def sha256_of(path: Path) -> str:
    """Hash a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync(path: Path) -> None:
    """Make a file's content, or a folder's list of entries, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _name(failed: OSError, path: Path) -> None:
    """Have an error name the file that was to be; a full disk names none, and nobody knows the one aside."""
    if failed.errno is not None:
        failed.filename, failed.filename2 = str(path), None


def _aside(path: Path) -> Path:
    return path.with_name(f"{ASIDE}{os.getpid()}-{path.name}")
