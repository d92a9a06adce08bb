"""Freeing disk by rule: what a run needs to be resumed, told and forked stays; the rest may go."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator import untold
from orchestrator.runs import SPEC_FILE, find_run, opened
from store import checkpoints
from store.errors import RunBusy
from store.files import ASIDE, remove_folder, remove_leftovers
from store.home import Home
from store.ledger import Ledger
from store.lock import RunLock, holder
from store.records import CheckpointRecord


@dataclass(frozen=True)
class Freed:
    """What was deleted, or would be, of one run or of the cache."""

    what: str  # a run's name, or "warm starts"
    num_items: int  # checkpoints, or cached policies
    num_bytes: int  # of disk; files that another run shares cost nothing and free nothing
    kept: str  # what stays, in words
    skipped: str | None = None  # why nothing was looked at


def prune(
    path: Path,
    runs: Sequence[str] = (),
    boundaries: bool = False,
    warm_starts: bool = False,
    dry_run: bool = False,
) -> list[Freed]:
    """Delete what the rule says, in these runs or in all: every checkpoint between boundaries but the newest.

    `boundaries`: also those of boundaries but the newest. A run keeps its newest checkpoint, so it can be resumed
    and its weights copied out; a run in use is left alone.
    """
    with opened(path) as (home, ledger):
        for name in runs:
            find_run(ledger, name)
        names = list(runs) or [run.name for run in ledger.reading.runs()]
        freed = [_prune_run(home, name, boundaries, dry_run) for name in names if _is_here(home, name)]
        if warm_starts:
            freed.append(_prune_cache(home.warm_starts, dry_run))
    return freed


def _is_here(home: Home, name: str) -> bool:
    return (home.run_folder(name) / SPEC_FILE).is_file()


def _prune_run(home: Home, name: str, boundaries: bool, dry_run: bool) -> Freed:
    folder = home.run_folder(name)
    if (who := holder(folder)) is not None:
        return Freed(name, 0, 0, "everything", f"in use by {who}")
    if (folder / untold.FILE).is_file():
        why = (
            f"its ledger was away and does not know its newest checkpoint: `evergreen resume {name}` tells it"
        )
        return Freed(name, 0, 0, "everything", why)
    try:
        with RunLock(folder), opened(home.path, name) as (_, ledger):
            return _prune_held(ledger, folder, name, boundaries, dry_run)
    except RunBusy as busy:  # somebody was faster
        return Freed(name, 0, 0, "everything", str(busy))


def _prune_held(ledger: Ledger, folder: Path, name: str, boundaries: bool, dry_run: bool) -> Freed:
    records = ledger.reading.checkpoints(name)
    doomed = checkpoints.superfluous(records, 0, boundaries)
    leftovers = _leftovers(folder, records)
    num_bytes = size_on_disk([*(folder / record.folder for record in doomed), *leftovers])
    if not dry_run:
        run = ledger.open_run(name)
        for record in checkpoints.prune(folder, records, 0, boundaries):
            ledger.forget_checkpoint(run, record)
        checkpoints.prepare(folder, ledger.reading.checkpoints(name))
    kept = len(records) - len(doomed)
    words = f"{kept} checkpoint{'' if kept == 1 else 's'}"
    return Freed(name, len(doomed) + len(leftovers), num_bytes, words)


def _leftovers(folder: Path, records: Iterable[CheckpointRecord]) -> list[Path]:
    """Find what crashes left behind: folders that the ledger does not know."""
    known = {folder / record.folder for record in records}
    return [path for path in sorted((folder / checkpoints.FOLDER).glob("*")) if path not in known]


def _prune_cache(folder: Path, dry_run: bool) -> Freed:
    entries = [path for path in sorted(folder.glob("*")) if not path.name.startswith(ASIDE)]
    num_bytes = size_on_disk(folder.glob("*"))
    if not dry_run and folder.exists():
        remove_leftovers(folder)
        for entry in entries:
            remove_folder(entry)
    return Freed("warm starts", len(entries), num_bytes, "none")


def size_on_disk(paths: Iterable[Path]) -> int:
    """Bytes that deleting these would free; a file with another link frees nothing."""
    files = (file for path in paths for file in (path, *path.rglob("*")) if file.is_file())
    return sum(stat.st_size for file in files if (stat := file.stat()).st_nlink == 1)
