"""Write aside, make it durable, then rename: a reader sees the old file or the new one, never half of one.

Used for every file that resume depends on, and for those that a user names. What a crash leaves behind starts with
`.aside-`. A link stays, what it leads to is replaced; a device, a pipe or a stream of this process is written into.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import re
import shutil
import sqlite3
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from secrets import randbelow

ASIDE = ".aside-"
STREAM = re.compile(r"/dev/std(?P<name>out|err)|/(dev|proc/self)/fd/(?P<number>\d+)")
_REPLACED = "-replaced"

REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EIO)
# safetensors passes the system's error on in words only
_IN_WORDS = re.compile(r"os error (\d+)|\bcode: (\d+)")
_OF_SQLITE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR)


def write_bytes(path: Path, content: bytes, private: bool = False) -> None:
    """Replace a file durably, keeping its mode (a private one is for its owner alone); or write into what is no file.

    Where that raises OSError, a file that was there is as it was.
    """
    if not replaces(path):
        _write_into(path, content)
        return
    path = _followed(path)
    aside = aside_of(path)
    try:
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666), "wb") as file:
            if path.is_file() and not private:
                os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode))
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


def write_text(path: Path, text: str, private: bool = False) -> None:
    """Replace a text file durably, as UTF-8; a private one is for its owner alone."""
    write_bytes(path, text.encode(), private)


def try_place(path: Path) -> None:
    """Raise OSError where no file could be written now, before the work for one; what is there stays as it is."""
    if not replaces(path):
        return
    path = _followed(path)
    aside = aside_of(path)
    try:
        aside.touch()
    except OSError as failed:
        _name(failed, path)
        raise
    finally:
        aside.unlink(missing_ok=True)


def replaces(path: Path) -> bool:
    """Whether writing there makes a file on a disk: not if it is a device, a pipe, or a stream of this process."""
    return not STREAM.fullmatch(str(path)) and (not path.exists() or path.is_file() or path.is_dir())


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Fill a folder aside; when the block ends well it is durable and has taken the place of `path`.

    Its parent is made if need be. When the block raises, nothing is left and an older `path` stays as it was.
    """
    if not path.parent.exists():
        path.parent.mkdir(parents=True)
        fsync(path.parent.parent)
    aside, replaced = aside_of(path), aside_of(path.with_name(path.name + _REPLACED))
    aside.mkdir()
    try:
        yield aside
        for entry in (*aside.rglob("*"), aside):
            fsync(entry)
        if path.exists() or path.is_symlink():
            path.rename(replaced)
        aside.rename(path)
        fsync(path.parent)
    except OSError as failed:
        _name(failed, path)
        raise
    finally:
        for leftover in (aside, replaced):
            _clear(leftover, path)


def copy_content(source: Path, target: Path, copy: Callable[[str, str], object] = shutil.copy2) -> None:
    """Copy what is in a folder, but for leftovers. The first OSError is raised.

    `shutil.copytree` would go on after it, and tell no cause of it.
    """

    def refuse(failed: OSError) -> None:
        raise failed

    for at, folders, names in os.walk(source, onerror=refuse, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(ASIDE)]
        here = target / Path(at).relative_to(source)
        make_folder(here, Path(at))
        for name in (name for name in names if not name.startswith(ASIDE)):
            copy(os.path.join(at, name), str(here / name))


def make_folder(folder: Path, like: Path) -> None:
    """Make a folder, if need be, into which nobody looks who may not look into another."""
    folder.mkdir(parents=True, exist_ok=True)
    mode = stat.S_IMODE(folder.stat().st_mode)
    if surplus := mode & ~(like.stat().st_mode | stat.S_IRWXU) & 0o777:
        folder.chmod(mode & ~surplus)


def aside_of(path: Path) -> Path:
    """Name what is to become of `path`, anew each time: processes of two containers may have one number."""
    return path.with_name(f"{ASIDE}{randbelow(10**9)}-{path.name}")


def beside(path: Path) -> Path:
    """Name a folder for what others make of `path` meanwhile; a crash leaves it as a leftover."""
    return aside_of(path.with_name(f"{path.name}-shares"))


def remove_folder(
    path: Path, call: Callable[[Callable[[], None]], object] = lambda act: act(), parent: Path | None = None
) -> None:
    """Delete a folder so that a crash on the way leaves a leftover rather than half a folder; of a link, the link.

    It is gone at once; `call` may free its room later. `parent`: where a leftover is looked for, if not beside it.
    """
    place = parent or path.parent
    doomed = aside_of(place / f"{'-'.join(path.relative_to(place).parts)}-removed")
    path.rename(doomed)
    call(partial(_remove, doomed))


def leftovers(parent: Path, of: str = "") -> list[Path]:
    """Find what crashed writers left in a folder; a sure sign only where this process alone writes to it.

    `of`: what all names begin with that are looked at.
    """
    return sorted(parent.glob(f"{ASIDE}[0-9]*-{glob.escape(of)}*"))


def remove_leftovers(parent: Path, of: str = "") -> None:
    """Delete what crashed writers left in a folder that this process alone writes to; half a replacement is undone."""
    for entry in leftovers(parent, of):
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


def _followed(path: Path) -> Path:
    """Follow a link to the place that is meant, whether anything is there or not."""
    if not path.is_symlink():
        return path
    place = Path(os.path.realpath(path))
    if place.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    return place


def _write_into(path: Path, content: bytes) -> None:
    """Write to a device or a pipe; to a stream of this process where it stands, as opening it anew would begin it."""
    found = STREAM.fullmatch(str(path))
    if found is None:
        with path.open("wb") as file:
            file.write(content)
        return
    sys.stdout.flush()
    descriptor = int(found["number"] or ("out", "err").index(found["name"]) + 1)
    with os.fdopen(os.dup(descriptor), "wb") as stream:
        stream.write(content)


def _name(failed: OSError, path: Path) -> None:
    """Have an error name the file that was to be; a full disk names none, and nobody knows the one aside."""
    if failed.errno is not None:
        failed.filename = str(path)
        del failed.filename2  # set to None it would be printed as a second name


def refusal(error: BaseException | None) -> str | None:
    """Say which file cannot be written and why, if that is what is behind an error; None: it is not."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in REFUSED:
            why, file = os.strerror(error.errno), error.filename
            is_named = isinstance(file, str | bytes | os.PathLike) and file
            return f"{os.fsdecode(file)} cannot be written: {why}" if is_named else why
        if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _OF_SQLITE:
            return f"the ledger cannot be written: {error}"
        if (found := _IN_WORDS.search(str(error))) and (number := int(found[1] or found[2])) in REFUSED:
            return os.strerror(number)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None
