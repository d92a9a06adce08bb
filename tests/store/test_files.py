from __future__ import annotations

import errno
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from store import files


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    files.write_text(path, "old and long")
    files.write_text(path, "néw")
    assert path.read_text("utf-8") == "néw"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name in ("old", "new"):
        link = tmp_path / name
        link.symlink_to(f"there/{name}.txt")
    (tmp_path / "there" / "old.txt").write_text("before")
    for name in ("old", "new"):
        files.write_text(tmp_path / name, "after")
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / "there" / f"{name}.txt").read_text() == "after"
    assert sorted(entry.name for entry in (tmp_path / "there").iterdir()) == ["new.txt", "old.txt"]


def test_a_link_to_itself_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("link")
    with pytest.raises(OSError, match="symbolic links"):
        files.write_text(tmp_path / "link", "text")
    assert (tmp_path / "link").is_symlink()


def test_a_replaced_file_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.touch(0o600)
    files.write_text(path, "text")
    assert path.stat().st_mode & 0o777 == 0o600


def test_devices_and_pipes_are_written_into(tmp_path: Path) -> None:
    device = Path("/dev/null")
    before = device.stat()
    (tmp_path / "link").symlink_to(device)
    for path in (device, tmp_path / "link"):
        files.write_text(path, "text")
    assert (device.stat().st_ino, device.stat().st_mode) == (before.st_ino, before.st_mode)
    assert (tmp_path / "link").is_symlink()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    files.write_text(pipe, "text")
    assert os.read(reader, 10) == b"text"
    os.close(reader)
    assert pipe.is_fifo()


def test_a_stream_of_ours_is_written_where_it_stands(tmp_path: Path) -> None:
    code = """
from pathlib import Path
from store import files
print("before")
files.write_text(Path("/dev/stdout"), "text\\n")
files.write_text(Path("/dev/fd/1"), "more\\n")
print("after")
"""
    with (tmp_path / "output").open("w") as output:
        subprocess.run([sys.executable, "-c", code], stdout=output, check=True, cwd=Path(__file__).parents[2])
    assert (tmp_path / "output").read_text() == "before\ntext\nmore\nafter\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["output"]


def test_a_folder_is_never_replaced_by_a_file(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        files.write_text(tmp_path, "text")
    assert tmp_path.is_dir()


def test_a_place_is_tried_and_stays_as_it_is(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("old")
    (tmp_path / "link").symlink_to("there")
    for path in (there, tmp_path / "new", tmp_path / "link", Path("/dev/null")):
        files.try_place(path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["link", "there"]
    assert there.read_text() == "old"
    for path in (tmp_path / "missing" / "new", Path("/proc/new")):
        with pytest.raises(OSError, match=re.escape(f"'{path}'")):
            files.try_place(path)


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "spec.yaml"
    files.write_text(path, "old")

    def full(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        files.write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_names_the_file_that_was_to_be_and_no_other(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "spec.yaml"

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match=r"no space left: '[^']*spec\.yaml'$"):
        files.write_text(path, "new")


def test_a_file_is_durable_before_it_has_its_name(tmp_path: Path, monkeypatch) -> None:
    path, seen = tmp_path / "spec.yaml", []
    monkeypatch.setattr(files.os, "fsync", lambda _: seen.append(path.exists()))
    files.write_text(path, "new")
    assert seen == [False, True]  # the file, then the folder that holds its name


def test_a_folder_appears_whole_and_replaces_an_older_one(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "one"
    for content in ("old", "new"):
        with files.new_folder(path) as folder:
            (folder / "deep").mkdir()
            (folder / "deep" / content).write_text(content)
            assert path.exists() == (content == "new")
    assert [entry.relative_to(path).as_posix() for entry in path.rglob("*.*")] == []
    assert [entry.name for entry in (path / "deep").iterdir()] == ["new"]
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_could_not_be_filled_leaves_the_older_one(tmp_path: Path) -> None:
    path = tmp_path / "one"
    with files.new_folder(path) as folder:
        (folder / "content").touch()
    with pytest.raises(FileNotFoundError), files.new_folder(path) as folder:
        (folder / "missing" / "other").touch()
    assert [entry.name for entry in path.iterdir()] == ["content"]
    assert list(tmp_path.iterdir()) == [path]


def test_processes_of_one_number_do_not_write_into_what_the_other_has_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in two containers on one volume."""
    with files.new_folder(tmp_path / "one") as ours:
        (ours / "content").write_text("ours")
        with files.new_folder(tmp_path / "one") as theirs:
            (theirs / "content").write_text("theirs")
        assert (tmp_path / "one" / "content").read_text() == "theirs"
    assert (tmp_path / "one" / "content").read_text() == "ours"
    real, waiting = os.fsync, ["theirs"]

    def fsync(descriptor: int) -> None:
        if waiting:
            files.write_text(tmp_path / "two", waiting.pop())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    files.write_text(tmp_path / "two", "ours")
    assert (tmp_path / "two").read_text() == "ours"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_leftovers_of_crashed_writers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / f"{files.ASIDE}1-one").mkdir()
    (tmp_path / f"{files.ASIDE}1-one" / "half").touch()
    (tmp_path / f"{files.ASIDE}2-spec.yaml").touch()
    (tmp_path / "one").mkdir()
    files.remove_leftovers(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["one"]


def test_what_crashed_writers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".aside-1-step" / "weights").mkdir(parents=True)
    (tmp_path / ".aside-1-note").touch()
    (tmp_path / ".aside-2-link").symlink_to(tmp_path)
    others = [tmp_path / name for name in ("step", ".DS_Store", ".aside-notes")]
    for other in others:
        other.touch()
    files.remove_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(others)


def test_a_folder_half_replaced_when_its_writer_was_killed_comes_back(tmp_path: Path) -> None:
    older = tmp_path / ".aside-1-step-replaced"
    older.mkdir()
    (older / "content").touch()
    (tmp_path / ".aside-1-step").mkdir()
    files.remove_leftovers(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["step", "step/content"]


def test_a_folder_that_cannot_take_its_place_leaves_the_older_one(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "one"
    (path / "older").mkdir(parents=True)
    real = Path.rename

    def fail_for_the_new_one(self: Path, target: Path) -> Path:
        if self.name.endswith("-one"):
            raise OSError("no space left")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_the_new_one)
    with pytest.raises(OSError, match="no space left"), files.new_folder(path):
        pass
    assert [entry.name for entry in path.iterdir()] == ["older"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_replaced_and_what_it_points_to_stays(tmp_path: Path) -> None:
    elsewhere, path = tmp_path / "elsewhere", tmp_path / "one"
    elsewhere.mkdir()
    path.symlink_to(elsewhere)
    with files.new_folder(path) as folder:
        (folder / "new").touch()
    assert not path.is_symlink()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["elsewhere", "one"]


# --- what a disk refuses ---


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
    assert files.refusal(error) == said


def test_it_is_found_behind_other_errors() -> None:
    error = ValueError("outer")
    error.__cause__ = full("/a")
    assert files.refusal(error) == "/a cannot be written: No space left on device"


def test_a_database_that_is_full_is_recognised(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "a.db")
    connection.execute("PRAGMA max_page_count = 2")
    connection.execute("CREATE TABLE a (b TEXT)")
    with pytest.raises(sqlite3.OperationalError) as caught:
        connection.executemany("INSERT INTO a VALUES (?)", [("x" * 5000,)] * 3)
    connection.close()
    assert files.refusal(caught.value) == "the ledger cannot be written: database or disk is full"
