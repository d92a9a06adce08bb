"""Removing runs and studies: their folders, their rows, MLflow's record. Nothing here loads torch.

A removal that was interrupted is finished by the next one. First goes MLflow's record, which `ui` would make anew; then
the folder is marked, and is no run from then on; then the ledger's rows go in one transaction, then the files, and last
the mark. Only what Evergreen wrote is deleted; anything else stays, and its folder with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import UserError
from orchestrator.locations import Sections, kinds_of
from orchestrator.recording import outbox
from orchestrator.runs import tracker_process
from orchestrator.runs.catalog import SPEC_FILE, is_run, kept_sections, ledger_url
from orchestrator.runs.kept_spec import EDITED
from orchestrator.runs.recovery import EARLIER, OF_RUN
from store import checkpoints, floors, identity, lock
from store.errors import HomeError, did_you_mean
from store.files import leftovers
from store.home import STUDIES, Home
from store.ledger import Ledger
from store.lock import holder, run_lock
from store.report import REPORT_FILE
from store.secrets import url_without_logins
from store.sentences import listed
from store.tracker import daemon, outlets, places, sinks

OWN = (  # what Evergreen writes into a run's folder, beside checkpoints
    *(SPEC_FILE, EDITED, outbox.FILE, REPORT_FILE, EARLIER, tracker_process.LOG, daemon.LOCK, daemon.TURN),
    *(outlets.LINK, places.FILE, *sinks.FILES, identity.FILE, identity.SLICES, floors.FILE, *lock.FILES),
)
OUTPUTS = "rank-*.log"  # the same, of ranks that failed


@dataclass(frozen=True)
class Removal:
    """A run that is to be removed."""

    name: str
    uid: str | None  # None: nothing tells it, as of a run that was killed before it was entered, or of a copy
    ledger_url: str
    num_rows: int  # there
    files: tuple[Path, ...]
    strays: tuple[Path, ...]  # in its folder, and not Evergreen's: they stay
    sections: Sections | None  # where its ledger and its tracker are; None: nothing tells

    @property
    def has_tracker(self) -> bool:
        """Whether a tracker may have a record of it."""
        if self.uid is None or self.sections is None:
            return False
        had_one = any(path.name == places.FILE for path in self.files)
        return had_one or bool(kinds_of(self.sections["tracker"]))

    @property
    def num_bytes(self) -> int:
        """What its files take."""
        return sum(path.lstat().st_size for path in self.files)


@dataclass(frozen=True)
class Plan:
    """What is to be removed, in the order in which it can go."""

    home: Home
    runs: Sequence[Removal]
    studies: Sequence[tuple[str, str]]  # with their ledgers' URLs

    @property
    def num_bytes(self) -> int:
        """What of the disk will be free: a file that another run shares frees nothing, unless both go."""
        stats = [path.lstat() for run in self.runs for path in run.files]
        links = Counter((stat.st_dev, stat.st_ino) for stat in stats)
        sizes = {(stat.st_dev, stat.st_ino): (stat.st_size, stat.st_nlink) for stat in stats}
        return sum(size for key, (size, num_links) in sizes.items() if links[key] >= num_links)


@dataclass(frozen=True)
class _Relations:
    """What a run is to others, whether its ledger or its folder tells."""

    parent: str | None = None
    baseline_of: str | None = None
    study: str | None = None


class _HomeRecords:
    """What a home's folders and ledgers know of runs and studies. As a context: its ledgers are closed at the end."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._stack = ExitStack()
        self._ledgers: dict[str, Ledger | None] = {}

    def __enter__(self) -> _HomeRecords:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def ledger(self, url: str) -> Ledger | None:
        """Open a ledger; None: it is not there."""
        if url not in self._ledgers:
            found = self._ledgers[url] = Ledger.find(url)
            if found is not None:
                self._stack.enter_context(found)
        return self._ledgers[url]

    def relations(self, names: Sequence[str]) -> dict[str, _Relations]:
        """Say what runs are to each other, as all folders tell and the ledgers of these names: such runs share one."""
        found = {}
        for folder in sorted(self.home.path.iterdir()):
            own = _identity(folder)
            if own is not None:
                parent = own.lineage.parent if own.lineage else None
                found[folder.name] = _Relations(parent, own.baseline_of, own.member.study if own.member else None)
        for url in dict.fromkeys(ledger_url(self.home, name) for name in names):
            if (ledger := self.ledger(url)) is not None:
                for run in ledger.reading.runs():
                    found[run.name] = _Relations(run.parent, run.baseline_of, run.study)
        return found


def plan(path: str | Path | None, names: Sequence[str]) -> Plan:
    """Find what goes with runs and studies of these names. Raises UserError where something still needs one of them."""
    home = Home(path, create=False)
    with _HomeRecords(home) as records:
        relations = records.relations(names)
        studies: dict[str, str] = {}
        runs: dict[str, Removal] = {}
        for name in names:
            url = ledger_url(home, name)
            if (found := _found(records, name, url)) is not None:
                runs[name] = found
                continue
            ledger = records.ledger(url)
            known = {study.name for study in ledger.reading.studies()} if ledger is not None else set()
            known |= {folder.name for folder in (home.path / STUDIES).glob("*") if folder.is_dir()}
            if name not in known:
                hint = did_you_mean(name, [*relations, *known], 3) or " `evergreen ls` lists the runs."
                raise UserError(f"there is no run and no study {name!r} in {home.path}.{hint}")
            studies[name] = url
            for member in (run for run, own in relations.items() if own.study == name):
                if (found := _found(records, member, ledger_url(home, member))) is not None:
                    runs[member] = found
    _refuse_needed(home, runs, studies, relations)
    # children first: a ledger refuses to lose what another run of its refers to
    ordered = sorted(runs.values(), key=lambda run: -_depth(run.name, relations))
    return Plan(home, ordered, list(studies.items()))


def _found(records: _HomeRecords, name: str, url: str) -> Removal | None:
    """Look for a run in its ledger and in its folder; None: it is in neither."""
    folder, ledger = records.home.run_folder(name), records.ledger(url)
    known = {run.name: run.uid for run in ledger.reading.runs()} if ledger is not None else {}
    files = own_files(folder)
    others = strays(folder, files)
    is_half_removed = identity.is_half_removed(folder)
    is_left = is_half_removed or (folder.is_dir() and not others)  # of one that never began
    is_users = files == [folder / SPEC_FILE] and not is_half_removed  # a run's folder has its lock before its spec
    if name not in known and (is_users or not (is_run(folder) or is_left)):
        return None
    own = _identity(folder)
    if own is not None and own.uid != known.get(name, own.uid):
        raise UserError(
            f"the ledger {url_without_logins(url)!r} has a run {name!r}, but another one than the folder {folder}: put "
            "the ledger of this home back, or move the folder out of it"
        )
    sections: Sections | None = None
    if (folder / SPEC_FILE).is_file():
        sections = kept_sections(records.home, name)
    elif ledger is not None and name in known:
        sections = {"tracker": {"type": "none"}, **ledger.reading.spec(name)}
    num_rows = ledger.reading.num_rows(name) if ledger is not None and name in known else 0
    # a folder that was copied still says whose copy it is: what is that run's stays
    uid = known.get(name) or (own.uid if own is not None and own.name == name else None)
    return Removal(name, uid, url, num_rows, tuple(files), tuple(others), sections)


def _identity(folder: Path) -> identity.Identity | None:
    """Read what a folder says of its run; a damaged file says nothing, and goes like the others."""
    try:
        return identity.read(folder)
    except HomeError:
        return None


def own_files(folder: Path) -> list[Path]:
    """Find the files of a run's folder that Evergreen wrote, but for the mark of a removal."""
    found = [path for own in OWN if (path := folder / own).is_file() or path.is_symlink()]
    found += [path for path in folder.glob(OUTPUTS) if path.is_file()]
    kept = folder / checkpoints.FOLDER
    for aside in [*leftovers(folder), *leftovers(kept)]:
        found += [path for path in (aside, *aside.rglob("*")) if not path.is_dir()]
    for path in sorted(kept.glob("*")):
        if OF_RUN.fullmatch(path.name):
            found += checkpoints.files(path)
    return found


def strays(folder: Path, own: Collection[Path]) -> list[Path]:
    """Find what else is in a run's folder, relative to it; a folder if nothing is in that."""
    ours = {*own, folder / identity.REMOVING, *_own_folders(folder)}
    others = (path for path in sorted(folder.rglob("*")) if path not in ours)
    files = (path for path in others if path.is_symlink() or not path.is_dir() or not any(path.iterdir()))
    return [path.relative_to(folder) for path in files]


def _own_folders(folder: Path) -> Iterator[Path]:
    """Find the folders that Evergreen made in a run's, whether anything is in them or not."""
    kept = folder / checkpoints.FOLDER
    if kept.is_dir():
        yield kept
    of_run = (path for path in kept.glob("*") if OF_RUN.fullmatch(path.name))
    for path in [*leftovers(folder), *leftovers(kept), *of_run]:
        if path.is_dir():
            yield from (path, *(inner for inner in path.rglob("*") if inner.is_dir()))


def _depth(name: str, relations: dict[str, _Relations]) -> int:
    """Count the runs that a run comes from."""
    own = relations.get(name, _Relations())
    return 1 + max(
        (_depth(other, relations) for other in (own.parent, own.baseline_of) if other is not None), default=-1
    )


def _refuse_needed(
    home: Home, runs: Collection[str], studies: Collection[str], relations: dict[str, _Relations]
) -> None:
    """Refuse to remove what is in use, or what a run that stays refers to."""
    problems = []
    for name in runs:
        if (who := holder(home.run_folder(name))) is not None:
            problems.append(f"{name} is in use by {who}; `evergreen stop {name}` asks it to stop")
        others = {other: own for other, own in relations.items() if other not in runs}
        forks = [other for other, own in others.items() if own.parent == name]
        twins = [other for other, own in others.items() if own.baseline_of == name]
        if forks:
            problems.append(f"{name} has forks, {listed(forks)}: name them too, or keep it")
        if twins:
            problems.append(f"{name} has a baseline, {listed(twins)}: name it too, or keep both")
        study = relations.get(name, _Relations()).study
        rest = [other for other, own in others.items() if own.study == study is not None]
        if rest and study in studies:
            problems.append(
                f"the study {study} has runs whose folders are not here, {listed(rest)}: remove it from the home that "
                "holds them"
            )
        elif rest and not identity.is_half_removed(home.run_folder(name)):
            problems.append(
                f"{name} is of the study {study}, which would be without it; `evergreen rm {study}` removes the study "
                f"with all its runs"
            )
    for study in studies:
        if (who := holder(home.study_folder(study))) is not None:
            problems.append(f"the study {study} is in use by {who}")
    if problems:
        raise UserError("nothing was removed:\n" + "\n".join(dict.fromkeys(problems)))


def remove(home: Home, run: Removal, keeps_record: bool = False) -> list[str]:
    """Remove a run, or the rest of one; names who had a record of it: MLflow, and what is beside it.

    Raises `RunBusy` or `UserError` where somebody was faster, and `TrackerError` before anything was removed.
    """
    folder = home.run_folder(run.name)
    had_record: list[str] = []
    with run_lock(folder) if folder.is_dir() else nullcontext():
        _refuse_changed(home, run)
        if run.sections is not None and run.uid is not None:
            job = tracker_process.job_of(run.sections, home, run.name)
            job = job or daemon.TrackerJob(run.name, str(folder), run.ledger_url, None)  # there may have been one
            had_record = daemon.forget(job, None if keeps_record else run.uid)
        if folder.is_dir():
            identity.begin_removal(folder, run.uid)
        ledger = Ledger.find(run.ledger_url)
        if ledger is not None and run.uid is not None:
            with ledger:
                ledger.remove_run(run.uid)
        if folder.is_dir():
            _delete(folder, own_files(folder))
    return had_record


def _refuse_changed(home: Home, run: Removal) -> None:
    """Refuse what became another run since it was planned, and what a run needs that began since."""
    with _HomeRecords(home) as records:
        relations = records.relations([run.name])
        now = _found(records, run.name, run.ledger_url)
    if now is not None and now.uid != run.uid:
        raise UserError(f"{run.name} is another run by now, and stays")
    if needing := [other for other, own in relations.items() if run.name in (own.parent, own.baseline_of)]:
        raise UserError(f"{run.name} stays: {listed(needing)} came from it meanwhile")


def remove_study(home: Home, name: str, url: str) -> None:
    """Remove a study whose runs are gone: its row, its lock, and what the processes of its runs printed."""
    folder = home.study_folder(name)
    with run_lock(folder) if folder.is_dir() else nullcontext():
        ledger = Ledger.find(url)
        if ledger is not None:
            with ledger:
                ledger.remove_study(name)
        if folder.is_dir():
            logs = sorted((folder / "logs").glob(f"{name}.*.txt"))
            _delete(folder, [*logs, *(folder / own for own in lock.FILES)])


def _delete(folder: Path, files: Iterable[Path]) -> None:
    """Delete files, the mark of a removal last, and then the folders that are empty without them."""
    last = [folder / own for own in (*lock.FILES, identity.REMOVING)]
    inner = set(_own_folders(folder))
    for path in files:
        if path not in last:
            path.unlink(missing_ok=True)
            inner |= {parent for parent in path.parents if parent.is_relative_to(folder) and parent != folder}
    for parent in sorted(inner, key=lambda parent: -len(parent.parts)):
        _remove_if_empty(parent)
    for path in last:
        path.unlink(missing_ok=True)
    _remove_if_empty(folder)


def _remove_if_empty(folder: Path) -> None:
    """Delete a folder that nothing is in; of a link, the link."""
    if any(folder.iterdir()):
        return
    if folder.is_symlink():
        folder.unlink()
    else:
        folder.rmdir()
