"""What a disk refuses: recognised in whatever a library raised, and said with the file's name."""

from __future__ import annotations

import errno
import os
import re
import sqlite3

REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EIO)
# safetensors passes the system's error on in words only
_IN_WORDS = re.compile(r"os error (\d+)|\bcode: (\d+)")
_OF_SQLITE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR)


def refusal(error: BaseException | None) -> str | None:
    """Say which file cannot be written and why, if that is what is behind an error; None: it is not."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in REFUSED:
            file = error.filename
            name = os.fsdecode(file) if isinstance(file, str | bytes | os.PathLike) else None
            return (
                f"{name} cannot be written: {os.strerror(error.errno)}" if name else os.strerror(error.errno)
            )
        if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _OF_SQLITE:
            return f"the ledger cannot be written: {error}"
        if (found := _IN_WORDS.search(str(error))) and (number := int(found[1] or found[2])) in REFUSED:
            return os.strerror(number)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None
