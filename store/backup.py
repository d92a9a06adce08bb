"""A copy of a home folder that was whole at one moment, taken while runs go on; and a home made of it again.

The copy is laid out as a home is, with `backup.json` beside. Databases are copied by SQLite's own backup, which sees
whole transactions. Checkpoints never change once they are there, so each is copied once; every backup compares the copy
with its checksums and makes it again where it has changed. The databases come after them, and what they name that came
meanwhile is fetched, until the newest checkpoint of every run is here. Only then do they take the place of earlier
copies: until that moment an earlier backup stays one.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

from store import checkpoints, identity
from store.errors import CheckpointError, HomeError, RunBusy
from store.files import (
    ASIDE,
    aside_of,
    copy_content,
    fsync,
    make_folder,
    new_folder,
    remove_leftovers,
    sha256_of,
    write_text,
)
from store.home import BACKUP_NOTE as NOTE
from store.home import BESIDE, DATABASES
from store.ledger.engine import read_only_uri
from store.lock import FILES as OF_LOCKS
from store.lock import holder, run_lock

LEDGER = DATABASES[0]
ROUNDS = 20  # of fetching what came meanwhile, before a home that changes faster than it can be copied is given up
WAITS_S = 30.0  # for a database that is being written
UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Backup:
    """What a backup holds."""

    at: str  # when its databases were copied, UTC
    home: str  # of what
    runs: int  # folders of runs
    num_bytes: int
    gone: tuple[str, ...] = ()  # runs that it holds and the home no more
    damaged: tuple[str, ...] = ()  # checkpoints that are damaged or missing in the home, and are not in it


def back_up(home: Path, target: Path, tell: Tell = lambda text: None) -> Backup:
    """Copy a home, or bring an earlier copy of it up to date; runs go on meanwhile.

    What was removed from the home since stays in the copy, but for checkpoints that its run deleted. Raises HomeError
    for a target that cannot hold it, or a home that has lost its ledger since the last time.
    """
    home, target = home.absolute(), target.expanduser().absolute()
    own, theirs = home.resolve(), target.resolve()
    if theirs.is_relative_to(own) or own.is_relative_to(theirs):
        raise HomeError(
            f"{target} and the home {home} hold one another: choose a folder elsewhere, best on another disk."
        )
    if target.exists() and not (target.is_dir() and (is_backup(target) or _is_empty(target))):
        raise HomeError(f"{target} is there and no backup: choose an empty folder, or one that does not exist yet.")
    if is_backup(target) and (target / LEDGER).is_file() and not (home / LEDGER).is_file():
        raise HomeError(
            f"{home} has no ledger any more and {target} has one, which would be lost: `evergreen restore` brings it "
            "back; to begin another backup, choose another folder."
        )
    make_folder(target, home)
    half = {"home": str(home)}
    with _alone(target):
        if not is_backup(target):
            _note(target, half)
        for folder in sorted({path.parent for path in target.rglob(f"{ASIDE}*")}):
            remove_leftovers(folder)
        with TemporaryDirectory(dir=target, prefix=f"{ASIDE}0-") as aside:
            databases = Path(aside)
            at, damaged = _whole_copy(home, target, databases, tell)
            for entry in sorted(home.iterdir()):
                if entry.is_file() and not _is_passing(entry.name) and entry.name not in DATABASES:
                    _copy_file(entry, target / entry.name)
                elif entry.is_dir() and _is_of_the_home(entry):
                    _copy_tree(entry, target / entry.name)
            _note(target, half)  # while databases of two moments are side by side
            for name in DATABASES:
                _put_database(databases / name, target / name)
        for run in _runs(home):
            _forget_deleted(run, target / run.name)
        here, there = ({run.name for run in _runs(folder)} for folder in (target, home))
        num_bytes = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
        made = Backup(at, str(home), len(here), num_bytes, tuple(sorted(here - there)), tuple(damaged))
        _note(target, asdict(made))
    return made


def restore(source: Path, home: Path, tell: Tell = lambda text: None) -> Backup:
    """Make a home of a backup, in a folder that is empty or not there; every checksum is compared first.

    Raises HomeError, and CheckpointError or HomeError for a backup that is damaged; then nothing was made.
    """
    source, home = source.expanduser().absolute(), home.expanduser().absolute()
    try:
        noted = json.loads((source / NOTE).read_text("utf-8"))
        made = Backup(**{**noted, "gone": tuple(noted["gone"]), "damaged": tuple(noted["damaged"])})
    except FileNotFoundError:
        raise HomeError(f"{source} is no backup: {NOTE}, which `evergreen backup` writes, is not there.") from None
    except (ValueError, TypeError, KeyError):
        raise HomeError(f"The backup {source} was not finished: make it again, or take an older one.") from None
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise HomeError(f"{home} is there and not empty: restore into a folder that is empty or does not exist.")
    with _alone(source, only_reads=True):
        for run in _runs(source):
            tell(run.name)
            for checkpoint in _checkpoints(run):
                checkpoints.verify(checkpoint)
        for name in DATABASES:
            if (source / name).is_file():
                _require_sound(source / name)
        with new_folder(home) as folder:
            make_folder(folder, home if home.exists() else source)
            for entry in sorted(source.iterdir()):
                if entry.is_dir() and not entry.name.startswith(ASIDE):
                    copy_content(entry, folder / entry.name)
                elif entry.is_file() and entry.name != NOTE and not _is_passing(entry.name):
                    shutil.copy2(entry, folder / entry.name)
    return made


def is_backup(folder: Path) -> bool:
    """Whether `back_up` writes there."""
    return (folder / NOTE).is_file()


def _is_empty(target: Path) -> bool:
    """Whether nothing is in a folder, but for what a backup that had hardly begun left there."""
    return all(entry.name in OF_LOCKS or entry.name.startswith(ASIDE) for entry in target.iterdir())


@contextmanager
def _alone(folder: Path, *, only_reads: bool = False) -> Iterator[None]:
    """Keep others from writing to a backup, or reading it, while the block lasts. Raises RunBusy.

    Who only reads holds no lock where nothing can be written, as on a disk that is mounted so.
    """
    with ExitStack() as held:
        try:
            held.enter_context(run_lock(folder))
        except RunBusy as busy:
            raise _in_use(folder) from busy
        except HomeError as failed:
            refused = failed.__cause__
            if not (only_reads and isinstance(refused, OSError) and refused.errno in UNWRITABLE):
                raise
            if holder(folder) is not None:
                raise _in_use(folder) from None
        yield


def _in_use(folder: Path) -> RunBusy:
    who = holder(folder) or "another process"
    return RunBusy(f"The backup {folder} is in use by {who}: wait until that is done.")


def _whole_copy(home: Path, target: Path, databases: Path, tell: Tell) -> tuple[str, list[str]]:
    """Copy runs, and databases aside, until what the ledger names is here; when that was, and what is damaged."""
    whole: set[Path] = set()  # copies of checkpoints that were read by now: once a backup
    for number in range(ROUNDS):
        damaged = []
        for run in _runs(home):
            tell(run.name)
            try:
                found = _copy_run(run, target / run.name, whole)
            except OSError as failed:
                if _is_run(run):
                    raise _cannot_copy(run, target / run.name, failed) from failed
                continue  # removed meanwhile
            damaged += found if _is_run(run) else []
        at = datetime.now(UTC).isoformat(timespec="seconds")
        for name in DATABASES:
            if (home / name).is_file():
                _copy_database(home / name, databases / name)
        lacking, now = _lacking(home, target, _newest(databases), whole), _newest(home)
        # what the home's own ledger still names as the newest, and does not have, nobody is about to write
        there = {run for run, own in lacking.items() if _is_run(home / run) and _is_there(home / run, own, set())}
        is_lost = {run for run, own in lacking.items() if now.get(run) == own and run not in there}
        if is_lost == lacking.keys():
            for lost, newest in lacking.items():
                if newest is not None:
                    _drop_damaged(target / lost / newest)
            return at, sorted({*damaged, *(f"{run}/{lacking[run]}" for run in is_lost)})
        time.sleep(min(1.0, 0.05 * number))
    raise HomeError(f"{home} changes faster than it can be copied: {', '.join(lacking)} again and again.")


def _copy_run(run: Path, target: Path, whole: set[Path]) -> list[str]:
    """Copy a run's folder; what is deleted meanwhile is left out. Names the checkpoints that are damaged."""
    make_folder(target, run)
    make_folder(target / checkpoints.FOLDER, run)
    damaged = []
    for checkpoint in _checkpoints(run):
        if not _copy_checkpoint(checkpoint, target / checkpoints.FOLDER / checkpoint.name, whole):
            damaged.append(f"{run.name}/{checkpoints.FOLDER}/{checkpoint.name}")
    for entry in sorted(run.iterdir()):
        if entry.name == identity.REMOVING:
            continue
        if entry.is_file() and entry.name not in OF_LOCKS and not entry.name.startswith(ASIDE):
            _copy_file(entry, target / entry.name)
        elif entry.is_dir() and entry.name != checkpoints.FOLDER and not entry.name.startswith(ASIDE):
            _copy_tree(entry, target / entry.name)
    return damaged


def _copy_checkpoint(checkpoint: Path, mine: Path, whole: set[Path]) -> bool:
    """Copy a checkpoint as it is by then, if it still is; False: it is damaged in the home.

    A copy that was made earlier stays if its checksums still hold.

    Raises HomeError, also for one that may not be read.
    """
    while (before := _state(checkpoint)) is not None:
        try:
            if not (_same(checkpoint, mine) and _is_whole(mine, whole)):
                with new_folder(mine) as aside:
                    copy_content(checkpoint, aside)
                    checkpoints.verify(aside)
                whole.add(mine)
            return True
        except (OSError, CheckpointError) as failed:
            damage = _damage(checkpoint)
            if _state(checkpoint) != before:  # replaced, thinned or deleted meanwhile
                continue
            if damage is not None and not isinstance(damage.__cause__, PermissionError):
                _drop_damaged(mine)
                return False
            raise _cannot_copy(checkpoint, mine, failed) from failed
    return True


def _state(checkpoint: Path) -> tuple[str | None, bool] | None:
    """Tell a checkpoint from what takes its place: the manifest's checksum, and if it is thin. None: it is gone."""
    if not checkpoint.is_dir():
        return None
    try:
        manifest = sha256_of(checkpoint / checkpoints.MANIFEST)
    except OSError:
        manifest = None
    return manifest, checkpoints.is_thin(checkpoint)


def _damage(checkpoint: Path) -> CheckpointError | None:
    """Say what is wrong with a checkpoint; None: it is whole."""
    try:
        checkpoints.verify(checkpoint)
    except CheckpointError as wrong:
        return wrong
    return None


def _is_whole(mine: Path, whole: set[Path]) -> bool:
    """Whether the checksums of a copy hold; one that is among `whole` is not read again."""
    if mine not in whole and _damage(mine) is None:
        whole.add(mine)
    return mine in whole


def _drop_damaged(mine: Path) -> None:
    """Delete a copy that is damaged where the home has no better one: beside it nothing could be restored.

    One that cannot be read stays: another time it may be.
    """
    damage = _damage(mine) if mine.is_dir() else None
    if damage is not None and not isinstance(damage.__cause__, OSError):
        shutil.rmtree(mine)


def _same(checkpoint: Path, mine: Path) -> bool:
    """Whether a checkpoint is here already, as far as the home still has it."""
    ours, theirs = mine / checkpoints.MANIFEST, checkpoint / checkpoints.MANIFEST
    is_same = ours.is_file() and sha256_of(ours) == sha256_of(theirs)
    return is_same and (checkpoints.is_thin(checkpoint) or not checkpoints.is_thin(mine))


def _forget_deleted(run: Path, target: Path) -> None:
    """Delete copies of checkpoints that the run has no more and the ledger's copy does not need."""
    there, needed = {one.name for one in _checkpoints(run)}, _newest(target.parent).get(run.name)
    if not _is_run(run):  # its removal has begun: what is here of it stays
        return
    for mine in _checkpoints(target):
        if mine.name not in there and f"{checkpoints.FOLDER}/{mine.name}" != needed:
            shutil.rmtree(mine)


def _lacking(home: Path, target: Path, newest: Mapping[str, str | None], whole: set[Path]) -> dict[str, str | None]:
    """Name the runs of the copied ledger that are not here whole, with their newest checkpoints.

    A run without a folder, here and in the home, is lost to both.
    """
    found = {run: own for run, own in newest.items() if (target / run).is_dir() or _is_run(home / run)}
    return {run: own for run, own in found.items() if not _is_there(target / run, own, whole)}


def _is_there(run: Path, newest: str | None, whole: set[Path]) -> bool:
    return run.is_dir() if newest is None else _is_whole(run / newest, whole)


def _newest(home: Path) -> dict[str, str | None]:
    """Read the runs of a ledger, of any schema that there was, each with the folder of its newest checkpoint."""
    if not (home / LEDGER).is_file():
        return {}
    query = (
        "SELECT run.name, checkpoint.folder "
        "FROM run LEFT JOIN checkpoint ON checkpoint.run_id = run.run_id AND checkpoint.deleted_at IS NULL "
        "ORDER BY checkpoint.step, checkpoint.num_boundaries, checkpoint_id"
    )
    # no such table: nothing was ever recorded there
    with closing(_reading(home / LEDGER)) as ledger, suppress(sqlite3.OperationalError):
        return dict(ledger.execute(query).fetchall())  # the last of a run counts
    return {}


def _reading(database: Path) -> sqlite3.Connection:
    uri = read_only_uri(database) or f"file:{quote(str(database))}?mode=ro"
    return sqlite3.connect(uri, uri=True, timeout=WAITS_S)


def _copy_database(source: Path, target: Path) -> None:
    """Copy a database as it is after a whole transaction, and check the copy."""
    target.unlink(missing_ok=True)
    try:
        with (
            closing(_reading(source)) as theirs,
            closing(sqlite3.connect(target)) as ours,
        ):
            theirs.backup(ours)
            ours.execute("PRAGMA journal_mode=DELETE")
        _require_sound(target)
        target.chmod(stat.S_IMODE(source.stat().st_mode))
        fsync(target)
    except sqlite3.Error as failed:
        raise HomeError(f"{source} cannot be copied: {failed}. `evergreen doctor` says what is wrong.") from failed


def _put_database(copy: Path, target: Path) -> None:
    """Have a database's copy, if there is one, take the place of the earlier one."""
    if copy.is_file():
        for end in BESIDE:  # of an earlier copy that somebody looked into
            target.with_name(target.name + end).unlink(missing_ok=True)
        copy.replace(target)
        fsync(target.parent)


def _require_sound(database: Path) -> None:
    try:
        with closing(_reading(database)) as opened:
            (said,) = opened.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as failed:
        said = str(failed)
    if said != "ok":
        raise HomeError(f"{database} is damaged: {said}.")


def _copy_file(source: Path, target: Path) -> None:
    """Copy a small file that may be replaced, or go, meanwhile. Raises HomeError."""
    aside = aside_of(target)
    try:
        with suppress(FileNotFoundError):
            shutil.copy2(source, aside)
            aside.replace(target)
    except OSError as failed:
        raise _cannot_copy(source, target, failed) from failed
    finally:
        aside.unlink(missing_ok=True)


def _cannot_copy(source: Path, target: Path, failed: Exception) -> HomeError:
    why = (isinstance(failed, OSError) and failed.strerror) or str(failed).rstrip(".")
    return HomeError(f"{source} cannot be copied to {target}: {why}. The same command goes on with it.")


def _copy_tree(source: Path, target: Path) -> None:
    """Copy files that are not here yet, or are of another size or time; what goes meanwhile is left out."""

    def unless_gone(failed: OSError) -> None:
        if not isinstance(failed, FileNotFoundError):
            raise _cannot_copy(source, target, failed) from failed

    for at, _, names in os.walk(source, onerror=unless_gone):
        with suppress(FileNotFoundError):
            make_folder(target / Path(at).relative_to(source), Path(at))
        for entry in (Path(at) / name for name in names if not _is_passing(name)):
            mine = target / entry.relative_to(source)
            with suppress(FileNotFoundError):
                before, now = (mine.stat() if mine.is_file() else None), entry.stat()
                is_same = before is not None and (before.st_size, before.st_mtime_ns) == (now.st_size, now.st_mtime_ns)
                if entry.is_file() and not is_same:
                    _copy_file(entry, mine)


def _runs(home: Path) -> list[Path]:
    return sorted(entry for entry in home.iterdir() if _is_run(entry))


def _is_run(folder: Path) -> bool:
    """Whether a folder is a run's, of which no removal has begun."""
    is_one = not folder.name.startswith(ASIDE) and (folder / "spec.yaml").is_file()
    return is_one and not identity.is_half_removed(folder)


def _is_of_the_home(folder: Path) -> bool:
    """Whether a folder is none of a run, nor what a removal has left of one."""
    return not (folder.name.startswith(ASIDE) or _is_run(folder) or identity.is_half_removed(folder))


def _checkpoints(run: Path) -> Iterator[Path]:
    folder = run / checkpoints.FOLDER
    if folder.is_dir():
        yield from sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(ASIDE))


def _is_passing(name: str) -> bool:
    """Whether a file is only there while somebody works."""
    return name.startswith(ASIDE) or name in OF_LOCKS or any(name == f"{db}{end}" for db in DATABASES for end in BESIDE)


def _note(target: Path, facts: object) -> None:
    write_text(target / NOTE, json.dumps(facts, indent=1) + "\n")
