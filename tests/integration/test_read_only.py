"""A home on a read-only mount can be looked at, and is left as it was."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from store.errors import LedgerError
from store.ledger import Ledger
from tests.conftest import Evergreen

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@pytest.fixture
def home(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished home in which nothing can be opened for writing; root is not stopped by modes."""
    home, real, real_access = tmp_path / "home", os.open, os.access
    shutil.copytree(finished, home)

    def refusing(path: Any, flags: int, *more: Any, **options: Any) -> int:
        if flags & WRITING and str(path).startswith(str(home)):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return real(path, flags, *more, **options)

    monkeypatch.setattr(os, "open", refusing)

    def denying(path: Any, mode: int) -> bool:
        return real_access(path, mode) and not (mode & os.W_OK and str(path).startswith(str(home)))

    monkeypatch.setattr(os, "access", denying)
    return home


def files(home: Path) -> dict[str, float]:
    return {str(path): path.stat().st_mtime for path in home.rglob("*")}


def test_every_verb_that_looks_works_and_leaves_everything_as_it_was(
    home: Path, tmp_path: Path, evergreen: Evergreen
) -> None:
    before = files(home)
    for words in (
        ("ls",),
        ("show", "small"),
        ("show", "small", "--follow"),
        ("report", "small", "-o", tmp_path / "report.html"),
        ("compare", "small", "flat"),
        ("diff", "small", "flat"),
        ("export", "small", tmp_path / "export"),
        ("weights", "small", tmp_path / "weights"),
    ):
        result = evergreen(*words, "--home", home)
        assert result.exit_code == 0, result.output
    assert files(home) == before
    refused = evergreen("resume", "small", "--stages", 4, "--home", home)
    assert refused.exit_code == 2
    assert "small cannot be written to: Read-only file system" in " ".join(refused.stderr.split())


def test_rows_that_lie_beside_the_ledger_are_read_or_missed_aloud(home: Path) -> None:
    url = f"sqlite:///{home / 'evergreen.db'}"
    with sqlite3.connect(home / "evergreen.db") as ledger:  # a process that has the ledger open
        ledger.execute("UPDATE run SET status = 'stopped' WHERE name = 'small'")
        ledger.commit()
        with Ledger.open(url, create=False) as ours:
            assert ours.reading.run("small").status == "stopped"
        shutil.copytree(home, home.parent / "home-copy")
    (copy := home.parent / "home-copy" / "evergreen.db").with_name("evergreen.db-shm").unlink()
    with pytest.raises(LedgerError, match=r"are in evergreen.db-wal, .* Copy both files"):
        Ledger.open(f"sqlite:///{copy}", create=False)


@pytest.mark.parametrize("is_open", [False, True])
def test_a_reader_that_cannot_write_sees_what_is_written_after_it_has_looked(
    home: Path, monkeypatch: pytest.MonkeyPatch, is_open: bool
) -> None:
    """`is_open`: the other process has the ledger open, and has not written yet."""
    monkeypatch.undo()
    path = home / "evergreen.db"
    with closing(sqlite3.connect(path)) as other, monkeypatch.context() as here:
        if is_open:
            other.execute("SELECT name FROM run").fetchall()
            assert path.with_name("evergreen.db-wal").stat().st_size == 0
        here.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
        with Ledger.open(f"sqlite:///{path}", create=False) as ours:
            assert ours.reading.run("small").status == "finished"
            other.execute("UPDATE run SET status = 'stopped' WHERE name = 'small'")
            other.commit()
            assert ours.reading.run("small").status == "stopped"
            other.execute("UPDATE run SET status = 'failed' WHERE name = 'small'")
            other.commit()
            assert ours.reading.run("small").status == "failed"
