"""Backups of small made-up homes: what happens to runs, disks and other processes while one copies."""

from __future__ import annotations

import builtins
import errno
import io
import os
import resource
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from store import backup, checkpoints, identity
from store.backup import back_up, restore
from store.checkpoints import Component
from store.errors import HomeError, RunBusy
from store.home import Home
from store.ledger import Ledger
from store.ledger.names import RunHandle
from store.lock import run_lock
from store.records import CheckpointRecord
from tests.store.ledger.example import begin


class LittleHome:
    """A home with a ledger and runs of small checkpoints."""

    def __init__(self, path: Path) -> None:
        self.home = Home(path)
        self.path = path
        self.ledger = Ledger.open(self.home.ledger_url)
        self._handles: dict[str, RunHandle] = {}

    def begin(self, name: str, *steps: int) -> Path:
        """Begin a run, with a checkpoint after each of these steps."""
        folder = self.home.run_folder(name)
        folder.mkdir()
        (folder / "spec.yaml").write_text(f"name: {name}\n")
        self._handles[name] = begin(self.ledger, name)
        for step in steps:
            self.checkpoint(name, step)
        return folder

    def checkpoint(self, name: str, step: int, size: int = 100) -> Path:
        """Make a checkpoint of a run."""
        parts = [Component(part, 1, _writer(bytes([step]) * size)) for part in ("weights", "optimizer")]
        saved = checkpoints.save(self.path / name, f"step-{step:06}", parts)
        record = CheckpointRecord(step, 1, "periodic", saved.folder, saved.sha256, saved.num_bytes)
        self.ledger.record_checkpoint(self._handles[name], record)
        return self.path / name / saved.folder


def _writer(content: bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "state.bin").write_bytes(content)

    return write


@pytest.fixture
def little(tmp_path: Path) -> Iterator[LittleHome]:
    home = LittleHome(tmp_path / "home")
    with home.ledger:
        yield home


def once(what: Callable[[], object]) -> Callable[[str], None]:
    """Do something when the first run is about to be copied."""
    waiting = [what]

    def tell(_: str) -> None:
        if waiting:
            waiting.pop()()

    return tell


@pytest.mark.parametrize("steps", [(), (1, 2)])
def test_a_run_that_begins_while_others_are_copied_is_in_the_backup(
    tmp_path: Path, little: LittleHome, steps: tuple[int, ...]
) -> None:
    little.begin("old", 1)
    made = back_up(little.path, tmp_path / "copy", once(lambda: little.begin("young", *steps)))
    restore(tmp_path / "copy", tmp_path / "again")
    with Ledger.open(Home(tmp_path / "again").ledger_url) as ledger:
        runs = [run.name for run in ledger.reading.runs()]
        named = {run: [one.folder for one in ledger.reading.checkpoints(run)] for run in runs}
    assert (made.runs, made.damaged) == (2, ())
    assert named["young"] == [f"checkpoints/step-{step:06}" for step in sorted(steps, reverse=True)]
    for run, folders in named.items():
        assert (tmp_path / "again" / run / "spec.yaml").is_file()
        for folder in folders[:1]:
            checkpoints.verify(tmp_path / "again" / run / folder)


@contextmanager
def no_file_beyond(num_bytes: int) -> Iterator[None]:
    """Have the system refuse bigger files, as a quota does, or a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("big", [1, 2])  # 2: the newest
def test_a_disk_that_refuses_a_checkpoint_ends_the_backup_in_words(
    tmp_path: Path, little: LittleHome, big: int
) -> None:
    little.begin("one")
    made = [little.checkpoint("one", step, 3_000_000 if step == big else 100) for step in (1, 2)]
    refused = tmp_path / "copy" / "one" / "checkpoints" / made[big - 1].name
    with no_file_beyond(2_000_000), pytest.raises(HomeError, match=rf"copied to {refused}: File too large\. The same"):
        back_up(little.path, tmp_path / "copy")
    back_up(little.path, tmp_path / "copy")
    checkpoints.verify(refused)


def rot(checkpoint: Path) -> None:
    """Change a byte of a checkpoint behind everybody's back."""
    state = checkpoint / "optimizer" / "state.bin"
    state.write_bytes(b"?" + state.read_bytes()[1:])


@pytest.mark.parametrize("step", [1, 2])  # 2: the newest
def test_a_copy_that_has_changed_on_the_backup_s_disk_is_made_again(
    tmp_path: Path, little: LittleHome, step: int
) -> None:
    little.begin("one", 1, 2)
    back_up(little.path, tmp_path / "copy")
    rot(tmp_path / "copy" / "one" / "checkpoints" / f"step-{step:06}")
    assert back_up(little.path, tmp_path / "copy").damaged == ()
    restore(tmp_path / "copy", tmp_path / "again")


@pytest.mark.parametrize("happens", ["damaged", "missing"])
@pytest.mark.parametrize("step", [1, 2])
def test_a_copy_that_has_changed_does_not_stay_where_the_home_has_no_better_one(
    tmp_path: Path, little: LittleHome, step: int, happens: str
) -> None:
    folder = little.begin("one", 1, 2) / "checkpoints" / f"step-{step:06}"
    back_up(little.path, tmp_path / "copy")
    rot(tmp_path / "copy" / "one" / "checkpoints" / folder.name)
    if happens == "damaged":
        rot(folder)
    else:
        shutil.rmtree(folder)
    is_told = happens == "damaged" or step == 2
    assert back_up(little.path, tmp_path / "copy").damaged == ((f"one/checkpoints/{folder.name}",) if is_told else ())
    restore(tmp_path / "copy", tmp_path / "again")


def test_a_whole_copy_stays_where_the_home_s_checkpoint_is_damaged(tmp_path: Path, little: LittleHome) -> None:
    folder = little.begin("one", 1, 2) / "checkpoints" / "step-000002"
    back_up(little.path, tmp_path / "copy")
    rot(folder)
    assert back_up(little.path, tmp_path / "copy").damaged == ()
    restore(tmp_path / "copy", tmp_path / "again")


def test_a_disk_that_refuses_another_file_is_told_so_too(tmp_path: Path, little: LittleHome) -> None:
    (little.begin("one", 1) / "report.html").write_bytes(b"x" * 3_000_000)
    with no_file_beyond(2_000_000), pytest.raises(HomeError, match=r"one/report\.html: File too large"):
        back_up(little.path, tmp_path / "copy")


@pytest.mark.parametrize("happens", ["thinned", "replaced", "deleted"])
def test_a_checkpoint_that_changes_while_it_is_copied_is_copied_as_it_is_then(
    tmp_path: Path, little: LittleHome, monkeypatch: pytest.MonkeyPatch, happens: str
) -> None:
    little.begin("one")
    changing = little.checkpoint("one", 1)
    little.checkpoint("one", 2)
    real, waiting = shutil.copyfile, [happens]

    def copyfile(source: str | Path, target: str | Path, **options: Any) -> Any:
        if waiting and Path(source).is_relative_to(changing):
            if (what := waiting.pop()) == "thinned":
                checkpoints.thin(changing)
            elif what == "replaced":
                little.checkpoint("one", 1, 300)
            else:
                shutil.rmtree(changing)
            source = changing / "optimizer" / "state.bin"
        return real(source, target, **options)

    monkeypatch.setattr(shutil, "copyfile", copyfile)
    made = back_up(little.path, tmp_path / "copy")
    assert (waiting, made.damaged) == ([], ())
    copy = tmp_path / "copy" / "one" / "checkpoints" / changing.name
    if happens == "deleted":
        assert not copy.exists()
    else:
        checkpoints.verify(copy)
        assert checkpoints.is_thin(copy) == (happens == "thinned")
        assert (copy / "manifest.json").read_bytes() == (changing / "manifest.json").read_bytes()


def test_a_copy_that_does_not_become_what_the_home_has_is_told(
    tmp_path: Path, little: LittleHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    little.begin("one", 1, 2)
    real = shutil.copyfile

    def copyfile(source: str | Path, target: str | Path, **options: Any) -> Any:
        copied = real(source, target, **options)
        if "step-000001" in str(source) and Path(source).name == "state.bin":
            Path(target).write_bytes(b"of a bad disk")
        return copied

    monkeypatch.setattr(shutil, "copyfile", copyfile)
    with pytest.raises(HomeError, match=r"step-000001: .* has changed since it was written"):
        back_up(little.path, tmp_path / "copy")


@pytest.mark.parametrize("acts", ["_copy_run", "_require_sound", "_copy_tree"])
def test_a_backup_that_does_not_come_to_its_end_leaves_the_one_before_usable(
    tmp_path: Path, little: LittleHome, monkeypatch: pytest.MonkeyPatch, acts: str
) -> None:
    little.begin("one", 1)
    (little.path / "tensorboard").mkdir()
    back_up(little.path, tmp_path / "copy")
    before = {path.name for path in (tmp_path / "copy").iterdir()}
    little.begin("two", 1)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(backup, acts, killed)
        with pytest.raises(KeyboardInterrupt):
            back_up(little.path, tmp_path / "copy")
    assert {path.name for path in (tmp_path / "copy").iterdir()} - {"two"} == before
    restore(tmp_path / "copy", tmp_path / "again")
    with Ledger.open(Home(tmp_path / "again").ledger_url) as ledger:
        assert [run.name for run in ledger.reading.runs()] == ["one"]
    assert back_up(little.path, tmp_path / "copy").runs == 2


def test_two_backups_into_one_folder_are_not_made_at_once(tmp_path: Path, little: LittleHome) -> None:
    little.begin("one", 1)
    back_up(little.path, tmp_path / "copy")
    with run_lock(tmp_path / "copy"):
        for use in (
            lambda: back_up(little.path, tmp_path / "copy"),
            lambda: restore(tmp_path / "copy", tmp_path / "no"),
        ):
            with pytest.raises(RunBusy, match=r"The backup .*/copy is in use by process \d+ on .*: wait until that"):
                use()
    restore(tmp_path / "copy", tmp_path / "again")


def make_read_only(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Refuse to open anything in a folder for writing, as a mount does that is read-only; modes do not stop root."""
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT
    open_file, access, connect = os.open, os.access, sqlite3.connect

    def refusing(path: Any, flags: int, *more: Any, **options: Any) -> int:
        if flags & writing and str(path).startswith(f"{folder}/"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return open_file(path, flags, *more, **options)

    def connecting(place: Any, **options: Any) -> sqlite3.Connection:
        if f"{folder}/" in str(place) and "immutable=1" not in str(place):  # its file beside it cannot be made
            raise sqlite3.OperationalError("unable to open database file")
        return connect(place, **options)

    monkeypatch.setattr(os, "open", refusing)
    monkeypatch.setattr(
        os,
        "access",
        lambda path, mode: access(path, mode) and not (mode & os.W_OK and str(path).startswith(str(folder))),
    )
    monkeypatch.setattr(sqlite3, "connect", connecting)


def test_a_home_is_made_of_a_backup_that_may_only_be_read(
    tmp_path: Path, little: LittleHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    little.begin("one", 1)
    made = back_up(little.path, tmp_path / "copy")
    make_read_only(monkeypatch, tmp_path / "copy")
    with pytest.raises(HomeError, match="Read-only file system"):
        back_up(little.path, tmp_path / "copy")
    assert restore(tmp_path / "copy", tmp_path / "again") == made
    checkpoints.verify(tmp_path / "again" / "one" / "checkpoints" / "step-000001")


def test_a_backup_that_may_only_be_read_waits_for_who_writes_it(
    tmp_path: Path, little: LittleHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    little.begin("one", 1)
    back_up(little.path, tmp_path / "copy")
    with run_lock(tmp_path / "copy"):
        make_read_only(monkeypatch, tmp_path / "copy")
        with pytest.raises(RunBusy, match="is in use by process"):
            restore(tmp_path / "copy", tmp_path / "again")


def test_a_home_that_may_only_be_read_is_copied(
    tmp_path: Path, little: LittleHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    little.begin("one", 1)
    little.ledger.close()
    make_read_only(monkeypatch, little.path)
    made = back_up(little.path, tmp_path / "copy")
    assert (made.runs, made.damaged) == (1, ())
    restore(tmp_path / "copy", tmp_path / "again")
    with Ledger.open(Home(tmp_path / "again").ledger_url) as ledger:
        assert [run.name for run in ledger.reading.runs()] == ["one"]


@pytest.mark.parametrize("file", ["manifest.json", "weights/state.bin"])
def test_a_checkpoint_that_may_not_be_read_is_not_called_damaged(
    tmp_path: Path, little: LittleHome, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    """It was left out, and the backup called whole."""
    refused = little.begin("one", 1) / "checkpoints" / "step-000001" / file
    for module in (builtins, io):
        real = module.open

        def opening(path: Any, *given: Any, real: Any = real, **options: Any) -> Any:
            if str(path) == str(refused):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return real(path, *given, **options)

        monkeypatch.setattr(module, "open", opening)
    with pytest.raises(HomeError, match=r"step-000001 cannot be copied to .*: Permission denied\."):
        back_up(little.path, tmp_path / "copy")


def test_a_backup_that_was_killed_before_its_first_word_can_begin_again(tmp_path: Path, little: LittleHome) -> None:
    little.begin("one", 1)
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "lock").touch()
    (tmp_path / "copy" / ".aside-1-backup.json").touch()
    assert back_up(little.path, tmp_path / "copy").runs == 1


@pytest.mark.parametrize("first", [True, False])
def test_a_run_that_is_removed_while_others_are_copied_is_left_out(
    tmp_path: Path, little: LittleHome, first: bool
) -> None:
    little.begin("one", 1)
    going = little.begin("two", 1)

    def remove() -> None:
        little.ledger.remove_run("uid of two")
        shutil.rmtree(going)

    if not first:
        back_up(little.path, tmp_path / "copy")
    made = back_up(little.path, tmp_path / "copy", once(remove))
    assert (made.runs, made.gone) == ((1, ()) if first else (2, ("two",)))


def test_a_folder_that_goes_while_it_is_copied_is_left_out(
    tmp_path: Path, little: LittleHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    little.begin("one", 1)
    for run in ("one", "two"):
        (little.path / "tensorboard" / run).mkdir(parents=True)
        (little.path / "tensorboard" / run / "events").write_text(run)
    going, real = little.path / "tensorboard" / "two", os.scandir

    def scandir(folder: Any = ".") -> Any:
        if str(folder) == str(going) and going.exists():
            shutil.rmtree(going)
        return real(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    back_up(little.path, tmp_path / "copy")
    assert [path.name for path in (tmp_path / "copy" / "tensorboard").iterdir()] == ["one"]


def test_what_a_killed_backup_left_is_neither_kept_nor_restored(tmp_path: Path, little: LittleHome) -> None:
    """Wherever it copied; only where it had replaced half of something is that undone."""
    little.begin("one", 1)
    (little.path / "tensorboard" / "one").mkdir(parents=True)
    (little.path / "tensorboard" / "one" / "events").touch()
    copy, again = tmp_path / "copy", tmp_path / "again"
    back_up(little.path, copy)
    for place in ("", "one", "one/checkpoints", "tensorboard/one"):
        (copy / place / ".aside-7-half").mkdir()
        (copy / place / ".aside-7-half" / "file").touch()
    shutil.rmtree(little.path / "one" / "checkpoints")
    (copy / "one" / "checkpoints" / "step-000001").rename(
        copy / "one" / "checkpoints" / ".aside-7-step-000001-replaced"
    )
    restore(copy, again)
    assert not list(again.rglob(".aside-*"))
    back_up(little.path, copy)
    assert not list(copy.rglob(".aside-*"))
    checkpoints.verify(copy / "one" / "checkpoints" / "step-000001")


@pytest.mark.parametrize("is_marked_first", [True, False])  # or while the backup copies
def test_a_half_removed_run_stays_in_the_backup_as_it_was(
    tmp_path: Path, little: LittleHome, is_marked_first: bool
) -> None:
    little.begin("one", 1)
    half = little.begin("two", 1, 2)
    back_up(little.path, tmp_path / "copy")

    def remove_half() -> None:
        identity.begin_removal(half, "uid of two")
        little.ledger.remove_run("uid of two")
        (half / "checkpoints" / "step-000002" / "weights" / "state.bin").unlink()
        shutil.rmtree(half / "checkpoints" / "step-000001")

    if is_marked_first:
        remove_half()
    made = back_up(little.path, tmp_path / "copy", once(remove_half if not is_marked_first else lambda: None))
    assert (made.runs, made.gone, made.damaged) == (2, ("two",), ())
    copy = tmp_path / "copy" / "two"
    assert not identity.is_half_removed(copy)
    for step in (1, 2):
        checkpoints.verify(copy / "checkpoints" / f"step-{step:06}")


def test_a_half_removed_run_that_the_ledger_names_is_not_waited_for(tmp_path: Path, little: LittleHome) -> None:
    identity.begin_removal(little.begin("one", 1), "uid of one")
    assert back_up(little.path, tmp_path / "copy").runs == 0


def test_an_earlier_run_called_as_a_file_of_a_run_s_folder_is_in_the_backup(tmp_path: Path, little: LittleHome) -> None:
    little.begin("stop", 1)
    made = back_up(little.path, tmp_path / "copy")
    restore(tmp_path / "copy", tmp_path / "again")
    assert made.runs == 1
    checkpoints.verify(tmp_path / "again" / "stop" / "checkpoints" / "step-000001")


@pytest.mark.parametrize("name", ["lock", "backup.json"])
def test_an_earlier_run_that_no_backup_can_hold_is_named(tmp_path: Path, little: LittleHome, name: str) -> None:
    little.begin(name, 1)
    with pytest.raises(HomeError, match=f"home/{name} cannot be copied"):
        back_up(little.path, tmp_path / "copy")


def test_a_backup_is_as_private_as_its_home(tmp_path: Path, little: LittleHome) -> None:
    little.begin("one", 1)
    (little.path / "tensorboard" / "one").mkdir(parents=True)
    private = ["", "evergreen.db", "one", "one/spec.yaml", "one/checkpoints/step-000001", "tensorboard/one"]
    for place in private:
        (little.path / place).chmod(0o700 if (little.path / place).is_dir() else 0o600)
    (tmp_path / "given").mkdir(mode=0o755)
    for number, target in enumerate((tmp_path / "copy", tmp_path / "given")):
        back_up(little.path, target)
        restore(target, tmp_path / f"again-{number}")
        for made in (target, tmp_path / f"again-{number}"):
            assert [path for place in private if (path := made / place).stat().st_mode & 0o077] == []


def test_a_target_in_the_home_by_way_of_a_link_is_refused(tmp_path: Path, little: LittleHome) -> None:
    little.begin("one", 1)
    (tmp_path / "link").symlink_to(little.path)
    with pytest.raises(HomeError, match="hold one another"):
        back_up(little.path, tmp_path / "link" / "copy")
