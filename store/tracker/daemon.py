"""The tracker's process: catch up whenever a checkpoint covers more, until the run is over and all of it is sent.

MLflow may be away: then it pauses, ever longer. When the run is over it goes on trying for a while by itself.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from store.errors import LedgerAway, StoreError, TrackerError
from store.files import write_text
from store.ledger import Ledger
from store.lock import holder, is_locked
from store.run_status import status
from store.tracker import saved_view
from store.tracker.artifacts import REPORT
from store.tracker.pages import Cursor, covered
from store.tracker.record import MlflowRecord, MlflowRun, Target, locked, mind_manners, speaking_of
from store.tracker.sync import Say, Source, catch_up, is_complete

LOCK, TURN, LINK = "tracker.lock", "tracker.turn", "mlflow.json"  # in a run's folder
LOOK_S = 1.0  # between two looks at the ledger
TURN_S = 60.0  # for an earlier tracker of the run to let go
PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0, 20.0)  # after the first failure, the second, ...; then the last again
NAMED = 5  # runs that are named where nothing is to be done
GIVE_UP_S = 600.0  # after a run's end, when MLflow stays away

_TAKEN_OVER = "another tracker sends this run from here on"


@dataclass(frozen=True)
class TrackerJob:
    """What a tracker has to do. Handed over by a pipe: the URLs may hold passwords."""

    run: str
    folder: str  # the run's own
    ledger_url: str
    target: Target

    def as_json(self) -> str:
        """Write it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> TrackerJob:
        """Read it back."""
        raw = json.loads(text)
        return cls(**{**raw, "target": Target(**raw["target"])})


@dataclass(frozen=True)
class Link:
    """Where MLflow's UI shows a run and those beside it: the ends of three URLs."""

    runs: str
    charts: str
    run: str

    def keep(self, folder: Path) -> None:
        """Write it into the run's folder, for pages that lead there without asking MLflow; a full disk goes without."""
        if Link.kept(folder) != self:
            with suppress(OSError):
                write_text(folder / LINK, json.dumps(asdict(self)))

    @classmethod
    def kept(cls, folder: Path) -> Link | None:
        """Read it back; None where nothing was sent yet."""
        try:
            return cls(**json.loads((folder / LINK).read_text()))
        except (OSError, TypeError, ValueError):
            return None


@contextmanager
def turn(folder: Path, wait_s: float) -> Iterator[Callable[[], bool]]:
    """Take over the sending of a run; yields what says whether it has been taken over again.

    One process sends a run. The newest does: a resumed run's tracker must not wait for one whose MLflow is away.
    """
    token = uuid.uuid4().hex
    note = folder / TURN
    write_text(note, token)
    with locked(folder / LOCK, wait_s, f"the record of {folder.name}, which another tracker is sending"):
        yield lambda: note.read_text() == token


def follow(job: TrackerJob, say: Say) -> None:
    """Send a run while it goes on, and what is left when it is over. Raises `TrackerError` when it gives up."""
    mind_manners()
    folder = Path(job.folder)
    with turn(folder, TURN_S) as is_mine:
        pauses = _Pauses(folder, is_mine, say)
        while is_mine():
            try:
                opened = Ledger.open(job.ledger_url, create=False)
            except LedgerAway as away:
                pauses.wait(away)
                continue
            with opened as ledger:
                _follow(Source(ledger, job.run, folder), job.target, is_mine, say, pauses)
            return
        say(_TAKEN_OVER)


def send_now(job: TrackerJob, say: Say) -> Link | None:
    """Send what a run's record lacks, once, and return where to see it. Raises `StoreError`.

    A run that is going on is left to its own tracker while there is one; None then if MLflow is away.
    """
    mind_manners()
    folder = Path(job.folder)
    if holder(folder) is not None and is_locked(folder / LOCK):
        say(f"{job.run}: running, and its own tracker sends it")
        with suppress(StoreError):  # which that tracker meets too, and waits for
            return _link_of(job)
        return None
    with (
        Ledger.open(job.ledger_url, create=False) as ledger,
        turn(folder, TURN_S) as is_mine,
        speaking_of(job.target),
    ):
        record, source = MlflowRecord(job.target), Source(ledger, job.run, folder)
        sent = catch_up(source, record, is_mine)
    say(f"{job.run}: {f'{sent.num_values} values sent' if sent.num_values else 'up to date'}")
    if not record.has_view:
        say(f"{job.run}: MLflow does not take the view with our columns and charts; its plain list is shown")
    link = _link(record, sent.entry)
    link.keep(folder)
    return link


def send_all(jobs: Sequence[TrackerJob], say: Say, refuse: Say) -> dict[TrackerJob, Link | None]:
    """Send what the records of several runs lack, as `send_now` does; a run that cannot be is told by `refuse`.

    One question to each ledger and one to each MLflow find the finished runs that lack nothing.
    """
    links: dict[TrackerJob, Link | None] = {}
    for job, link in _complete(jobs).items():
        links[job] = link
        link.keep(Path(job.folder))
    if links:
        say(f"{', '.join(job.run for job in links) if len(links) <= NAMED else f'{len(links)} runs'}: up to date")
    for job in jobs:
        if job not in links:
            try:
                links[job] = send_now(job, say)
            except StoreError as error:  # one that cannot be brought up to date does not keep the others
                refuse(f"{job.run}: {error}")
    return links


def _complete(jobs: Sequence[TrackerJob]) -> dict[TrackerJob, Link]:
    """Find the finished runs whose records lack nothing. What cannot be asked says nothing here: a pass meets it."""
    found: dict[TrackerJob, Link] = {}
    for url, target in dict.fromkeys((job.ledger_url, job.target) for job in jobs):
        with suppress(StoreError), Ledger.open(url, create=False) as ledger, speaking_of(target):
            record = MlflowRecord(target)
            entries, read = record.curricula(), ledger.reading
            runs, times, specs = {run.name: run for run in read.runs()}, read.all_boundary_times(), read.all_specs()
            for job in jobs:
                run = runs.get(job.run) if (job.ledger_url, job.target) == (url, target) else None
                entry = None if run is None else entries.get(run.uid)
                if run is None or entry is None:
                    continue
                if is_complete(entry, run, times.get(run.name), specs[run.name], Path(job.folder)):
                    found[job] = _link(record, entry)
    return found


def _link_of(job: TrackerJob) -> Link:
    """Find where a run is seen, without sending anything of it."""
    with Ledger.open(job.ledger_url, create=False) as ledger, speaking_of(job.target):
        record = MlflowRecord(job.target)
        return _link(record, record.curriculum(ledger.reading.run(job.run).uid))


def _link(record: MlflowRecord, entry: MlflowRun | None) -> Link:
    """Address a run, or while it has no page those beside it."""
    at = record.experiment_id, record.has_view
    runs = saved_view.of_runs(*at)
    return Link(runs, saved_view.of_charts(*at), saved_view.of_run(at[0], entry.id) if entry else runs)


def forget(job: TrackerJob, uid: str | None) -> bool:
    """Have a run's tracker let go, and MLflow delete what it has of the run; whether it had anything.

    `uid` None: MLflow keeps it. Raises `StoreError`.
    """
    folder = Path(job.folder)
    with turn(folder, TURN_S) if (folder / LOCK).exists() else nullcontext():
        if uid is None:
            return False
        with speaking_of(job.target):
            record = MlflowRecord.of(job.target)
            found = None if record is None else record.curriculum(uid)
            had_any = found is not None
            while record is not None and found is not None:  # a lost answer can leave two
                record.forget(found)
                found = record.curriculum(uid)
        return had_any


class _Pauses:
    """Ever longer pauses while MLflow or the ledger is away; once the run is over, not for ever."""

    def __init__(self, folder: Path, is_mine: Callable[[], bool], say: Say) -> None:
        self._folder, self._is_mine, self._say = folder, is_mine, say
        self._num_failures = 0
        self._give_up_at: float | None = None

    def wait(self, away: TrackerError | LedgerAway) -> None:
        """Pause before the next try. Raises what is given when it is time to give up."""
        pause_s = PAUSES_S[min(self._num_failures, len(PAUSES_S) - 1)]
        self._say(f"{away} Trying again in {pause_s:.0f} s.")
        if holder(self._folder) is None:
            self._give_up_at = self._give_up_at or time.monotonic() + GIVE_UP_S
            if time.monotonic() > self._give_up_at:
                raise away
        self._num_failures += 1
        until = time.monotonic() + pause_s
        # let go soon when another tracker takes over
        while self._is_mine() and (left := until - time.monotonic()) > 0:
            time.sleep(min(LOOK_S, left))

    def end(self) -> None:
        """Begin again with the shortest: it is there."""
        self._num_failures = 0


def _follow(source: Source, target: Target, is_mine: Callable[[], bool], say: Say, pauses: _Pauses) -> None:
    record: MlflowRecord | None = None
    seen: tuple[Cursor, str, int | None] | None = None
    while is_mine():
        try:
            with speaking_of(target):
                report = source.folder / REPORT
                until = covered(source.read, source.run)
                stands = status(source.read.run(source.run).status, source.folder)
                now = until, stands, report.stat().st_mtime_ns if report.is_file() else None
                if now != seen:
                    record = record or MlflowRecord(target)
                    sent = catch_up(source, record, is_mine)
                    _link(record, sent.entry).keep(source.folder)
                    say(f"{sent.num_values} values sent, up to step {until.step}; the run is {stands}")
                    seen = now
                    pauses.end()
                if stands != "running":
                    return
            time.sleep(LOOK_S)
        except (TrackerError, LedgerAway) as away:
            record = None
            pauses.wait(away)
    say(_TAKEN_OVER)
