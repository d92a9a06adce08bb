"""Freeing disk by rule: what a run needs to be resumed, reported and forked stays; the rest may go.

Without boundaries what stays is the checkpoint that a run goes on from, the newest boundary, which a guard may go back
to, and the boundaries that interventions of the run and of its forks read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from orchestrator.recording import outbox
from orchestrator.recording.saved_state import read_by_forks
from orchestrator.runs import stop_reasons
from orchestrator.runs.catalog import find_run, is_run, opened
from orchestrator.runs.recovery import put_aside, unrecorded
from store import checkpoints
from store.errors import CheckpointError, RunBusy
from store.files import ASIDE, leftovers, remove_folder, remove_leftovers
from store.home import Home
from store.ledger import Ledger
from store.lock import entry_lock, holder, run_lock

KEY = r"[0-9a-f]{32}"  # of a warm start
OURS = re.compile(rf"{KEY}|\.writing-.*")  # a warm start by its key; what earlier versions wrote aside
LEFT = re.compile(rf"{re.escape(ASIDE)}\d+-({KEY})")  # what is written aside of one


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
    """Delete what the rule says, in these runs or in all: every checkpoint between boundaries but the newest,
    and what was put aside since its weights diverged.

    `boundaries`: also those of boundaries, but the newest and those that interventions of the run or its forks read. A
    run keeps the checkpoint that it goes on from, so it can be resumed and its weights copied out; newer ones that are
    damaged, or diverged, wait for that. A run in use is left alone.
    """
    with opened(path) as (home, ledger):
        for name in runs:
            find_run(ledger, name)
        names = list(runs) or [run.name for run in ledger.reading.runs()]
        here = [name for name in names if is_run(home.run_folder(name))]
        freed = [_prune_run(home, name, boundaries, dry_run) for name in here]
    if warm_starts:
        freed.append(_prune_warm_starts(home.warm_starts, dry_run))
    return freed


def _prune_warm_starts(cache: Path, dry_run: bool) -> Freed:
    """Delete all but those that a run makes or takes at this moment."""
    names = {path.name for path in cache.glob("*") if OURS.fullmatch(path.name)}
    names |= {found[1] for path in leftovers(cache) if (found := LEFT.match(path.name))}
    num_items, num_bytes, num_kept = 0, 0, 0
    for name in sorted(names):
        try:
            with entry_lock(cache / name, _busy):
                own = [path for path in [cache / name] if path.exists() or path.is_symlink()]
                num_bytes += size_on_disk([*own, *leftovers(cache, name)])
                num_items += len(own)
                if not dry_run:
                    remove_leftovers(cache, name)
                    for path in own:
                        remove_folder(path)
        except RunBusy:
            num_kept += 1
    return Freed("warm starts", num_items, num_bytes, f"{num_kept} in use" if num_kept else "none")


def _busy() -> NoReturn:
    raise RunBusy("A run makes or takes this warm start.")


def _prune_run(home: Home, name: str, boundaries: bool, dry_run: bool) -> Freed:
    folder = home.run_folder(name)
    if (who := holder(folder)) is not None:
        return Freed(name, 0, 0, "everything", f"in use by {who}")
    if (folder / outbox.FILE).is_file():
        why = "its ledger was away and does not know its newest checkpoint"
        return Freed(name, 0, 0, "everything", f"{why}: `evergreen resume {name}` tells it")
    try:
        with run_lock(folder), opened(home.path, name) as (_, ledger):
            return _prune_checkpoints(ledger, home, name, boundaries, dry_run)
    except RunBusy as busy:  # somebody was faster
        return Freed(name, 0, 0, "everything", str(busy))


def _prune_checkpoints(ledger: Ledger, home: Home, name: str, boundaries: bool, dry_run: bool) -> Freed:
    folder, known = home.run_folder(name), ledger.reading.checkpoints(name)
    diverged = stop_reasons.last_divergence(ledger.reading.events(name))
    _, unfit = stop_reasons.newest_healthy(folder, known, diverged)  # they are no reason to delete one that is fit
    records = known[len(unfit) :]
    may_intervene = ledger.reading.spec(name)["curriculum"]["boundary"].get("interventions")
    needed = checkpoints.read_by_interventions(records) if may_intervene else set()
    if boundaries:
        needed |= read_by_forks(home, name)
    doomed = checkpoints.superfluous(records, 0, 1 if boundaries else None, needed)
    void = []  # damaged ones that the run went back behind: whole ones that no row names wait for `resume`
    for path in unrecorded(folder, known):
        try:
            checkpoints.verify(path)
        except CheckpointError:
            void.append(path)
    void += put_aside(folder)
    left = [*leftovers(folder), *leftovers(folder / checkpoints.FOLDER), *void]
    num_bytes = size_on_disk([*(folder / record.folder for record in doomed), *left])
    if not dry_run:
        run = ledger.open_run(name)
        checkpoints.delete(folder, doomed)
        for record in doomed:
            ledger.forget_checkpoint(run, record)
        for parent in (folder, folder / checkpoints.FOLDER):
            remove_leftovers(parent)
        for path in void:
            remove_folder(path)
    kept = len(known) - len(unfit) - len(doomed)
    return Freed(name, len(doomed) + len(left), num_bytes, f"{kept} checkpoint{'' if kept == 1 else 's'}")


def size_on_disk(paths: Iterable[Path]) -> int:
    """Bytes that deleting these would free; a file with another link frees nothing."""
    files = (file for path in paths for file in (path, *path.rglob("*")) if file.is_file())
    return sum(stat.st_size for file in files if (stat := file.stat()).st_nlink == 1)
