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
_REPLACED = "-replaced"


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file durably."""
    aside = _aside(path)
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
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
    if not path.parent.exists():
        path.parent.mkdir(parents=True)
        fsync(path.parent.parent)
    aside, replaced = _aside(path), _aside(path.with_name(path.name + _REPLACED))
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        yield aside
        for entry in (*aside.rglob("*"), aside):
            fsync(entry)
        if path.exists() or path.is_symlink():
            path.rename(replaced)
        aside.rename(path)
        fsync(path.parent)
    finally:
        for leftover in (aside, replaced):
            _clear(leftover, path)


def remove_folder(path: Path) -> None:
    """Delete a folder so that a crash on the way leaves a leftover rather than half a folder; of a link, the link."""
    doomed = _aside(path.with_name(f"{path.name}-removed"))
    path.rename(doomed)
    _remove(doomed)


def leftovers(parent: Path) -> list[Path]:
    """Find what crashed writers left in a folder; a sure sign only where this process alone writes to it."""
    return sorted(parent.glob(f"{ASIDE}[0-9]*-*"))


def remove_leftovers(parent: Path) -> None:
    """Delete what crashed writers left in a folder that this process alone writes to; half a replacement is undone."""
    for entry in leftovers(parent):
        name = entry.name.removeprefix(ASIDE).partition("-")[2].removesuffix(_REPLACED)
        _clear(entry, parent / name)


def _clear(leftover: Path, path: Path) -> None:
    """Delete what a writer of `path` left, unless it is the older `path` and no newer one has taken its place."""
    if not (leftover.exists() or leftover.is_symlink()):
        return
    if leftover.name.endswith(_REPLACED) and not path.exists():
        leftover.rename(path)
    else:
        _remove(leftover)


def _remove(entry: Path) -> None:
    """Delete a folder or a file; what a link points to is not ours."""
    if entry.is_dir() and not entry.is_symlink():
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


def _aside(path: Path) -> Path:
    return path.with_name(f"{ASIDE}{os.getpid()}-{path.name}")
