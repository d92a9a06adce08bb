from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

import pytest

from store.files import refusal


def full(path: str | None = None) -> OSError:
    return OSError(errno.ENOSPC, "No space left on device", path)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (full("/a/b"), "/a/b cannot be written: No space left on device"),
        (full(), "No space left on device"),
        (OSError(errno.EROFS, "", "/a"), "/a cannot be written: Read-only file system"),
        (PermissionError(errno.EACCES, "", "/a"), "/a cannot be written: Permission denied"),
        (RuntimeError("Error while serializing: I/O error: File too large (os error 27)"), "File too large"),
        (RuntimeError("IoError(Os { code: 28, kind: StorageFull })"), "No space left on device"),
        (FileNotFoundError(errno.ENOENT, "", "/a"), None),
        (ValueError("anything"), None),
        (None, None),
    ],
)
def test_what_a_disk_refuses_is_recognised(error: BaseException | None, said: str | None) -> None:
    assert refusal(error) == said


def test_it_is_found_behind_other_errors() -> None:
    error = ValueError("outer")
    error.__cause__ = full("/a")
    assert refusal(error) == "/a cannot be written: No space left on device"


def test_a_database_that_is_full_is_recognised(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "a.db")
    connection.execute("PRAGMA max_page_count = 2")
    connection.execute("CREATE TABLE a (b TEXT)")
    with pytest.raises(sqlite3.OperationalError) as caught:
        connection.executemany("INSERT INTO a VALUES (?)", [("x" * 5000,)] * 3)
    connection.close()
    assert refusal(caught.value) == "the ledger cannot be written: database or disk is full"
