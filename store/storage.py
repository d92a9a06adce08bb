"""What a disk refuses: recognised in whatever a library raised, and said with the file's name."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
from collections.abc import Iterator

REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EIO)
_IN_WORDS = re.compile(
    r"os error (\d+)|\bcode: (\d+)"
)  # safetensors passes the system's error on in words only
_OF_SQLITE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR)


def refusal(error: BaseException | None) -> str | None:
    """Say which file cannot be written and why, if that is what is behind an error; None: it is not."""
    for one in _causes(error):
        if isinstance(one, OSError) and one.errno in REFUSED:
            return _said(one.errno, one.filename)
        if isinstance(one, sqlite3.Error) and getattr(one, "sqlite_errorcode", 0) & 0xFF in _OF_SQLITE:
            return f"the ledger cannot be written: {one}"
        if (found := _IN_WORDS.search(str(one))) and (number := int(found[1] or found[2])) in REFUSED:
            return _said(number, None)
    return None


def _said(number: int, file: object) -> str:
    name = os.fsdecode(file) if isinstance(file, str | bytes | os.PathLike) else None
    return f"{name} cannot be written: {os.strerror(number)}" if name else os.strerror(number)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it was raised for."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
