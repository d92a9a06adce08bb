"""The tracker's process: catch up whenever a checkpoint covers more, until the run is over and all of it is sent.

MLflow may be away: then it pauses, ever longer. When the run is over it goes on trying for a while by itself. Each of
several places has a thread, a cursor and pauses of its own, so that one that is away holds up no other.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from store.errors import LedgerAway, StoreError, TrackerError, TrackerRefused
from store.ledger import Ledger
from store.lock import holder, is_locked, taking_turns, try_lock
from store.run_status import status
from store.tracker import places, sinks
from store.tracker.artifacts import REPORT
from store.tracker.outlets import Link, MlflowOutlet, Outlet, SinkOutlet, link_to
from store.tracker.pages import Cursor, covered
from store.tracker.record import POLL_S, MlflowRecord, Target, locked, mind_manners, speaking_of
from store.tracker.sinks import Destination
from store.tracker.sync import Say, Source, catch_up, is_complete

LOCK, TURN = "tracker.lock", "tracker.turn"  # in a run's folder
LOOK_S = 1.0  # between two looks at the ledger
TURN_S = 60.0  # for an earlier tracker of the run to let go
PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0, 20.0)  # after the first failure, the second, ...; then the last again
NAMED = 5  # runs that are named where nothing is to be done
GIVE_UP_S = 600.0  # after a run's end, when MLflow stays away
LET_GO_S = 20.0  # for a place that is being sent to when another tracker takes over
OUTLET = "outlet"  # begins the names of threads

_TAKEN_OVER = "another tracker sends this run from here on"


@dataclass(frozen=True)
class TrackerJob:
    """What a tracker has to do. Handed over by a pipe: the URLs may hold passwords."""

    run: str
    folder: str  # the run's own
    ledger_url: str
    target: Target | None  # MLflow's; None: it keeps no record
    also: tuple[Destination, ...] = ()  # beside it

    def as_json(self) -> str:
        """Write it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> TrackerJob:
        """Read it back."""
        raw = json.loads(text)
        target = Target(**raw["target"]) if raw["target"] else None
        return cls(**{**raw, "target": target, "also": tuple(Destination(**one) for one in raw["also"])})


@contextmanager
def turn(folder: Path, wait_s: float, goes_on: Callable[[], bool] = lambda: False) -> Iterator[Callable[[], bool]]:
    """Take over the sending of a run; yields what says whether it has not been taken over again.

    One process sends a run. The newest does: a resumed run's tracker must not wait for one whose MLflow is away. Who
    sends lets go where another asks for it that began later. To ask is to hold a shared lock of the note, so that one
    that waits in vain, or is killed, asks no more; `goes_on`: see `locked`.
    """
    token, note, one_looks = uuid.uuid4().hex, folder / TURN, threading.Lock()

    def is_mine() -> bool:
        with one_looks, suppress(FileNotFoundError):  # two threads' looks would take each other for somebody who asks
            return note.read_text() == token or not _is_asked_for(note)
        return True  # the run's folder is gone: nobody can ask

    with ExitStack() as held:
        with taking_turns(note, lambda: time.sleep(POLL_S), fcntl.LOCK_SH) as asking:
            os.pwrite(asking, token.encode(), 0)  # in place, over another of its length: its lock is the file's
            what = f"the record of {folder.name}, which another tracker is sending"
            held.enter_context(locked(folder / LOCK, wait_s, what, goes_on))
        yield is_mine


def _is_asked_for(note: Path) -> bool:
    descriptor = os.open(note, os.O_RDWR)  # where a home is on NFS, a lock against all others wants a file to write to
    try:
        return not try_lock(descriptor)
    finally:
        os.close(descriptor)


def follow(job: TrackerJob, say: Say) -> None:
    """Send a run while it goes on, and what is left when it is over. Raises `TrackerError` when it gives up."""
    mind_manners()
    folder = Path(job.folder)
    with turn(folder, TURN_S, lambda: holder(folder) is not None) as is_mine:
        outlets: list[Outlet] = [MlflowOutlet(job.target, folder)] if job.target is not None else []
        outlets += map(SinkOutlet, job.also)
        failures = _follow_to_all(outlets, job, is_mine, say)
        for failed in failures[1:]:
            say(f"gave up: {failed}")
        if failures:
            raise failures[0]


def _follow_to_all(
    outlets: Sequence[Outlet], job: TrackerJob, is_mine: Callable[[], bool], say: Say
) -> list[Exception]:
    """Keep several places up to date until the run is over or another tracker takes over; gives what failed.

    A place that stopped for another tracker is begun again where that one was killed, or waited in vain, before all
    had let go.
    """
    failures: list[Exception] = []
    done: set[Outlet] = set()
    threads: dict[Outlet, threading.Thread] = {}

    def follow_one(outlet: Outlet) -> None:
        try:
            if not _follow_to(outlet, job, is_mine, say):
                return
        except Exception as failed:  # told when all have ended
            failures.append(failed)
        done.add(outlet)

    asked_at: float | None = None
    while True:
        at_work = [outlet for outlet, thread in threads.items() if thread.is_alive()]  # looked at before `done`
        left = [outlet for outlet in outlets if outlet not in done]
        if not left and not at_work:
            return failures
        if is_mine():
            asked_at = None
            for outlet in left:
                if outlet not in at_work:
                    threads[outlet] = threading.Thread(target=follow_one, args=[outlet], name=OUTLET, daemon=True)
                    threads[outlet].start()
        elif not at_work:
            say(_TAKEN_OVER)
            return failures
        elif time.monotonic() > (asked_at := asked_at or time.monotonic()) + LET_GO_S:
            raise TrackerError(f"{_TAKEN_OVER}, and what is under way did not end in {LET_GO_S:.0f} s.")
        threads[(at_work or left)[0]].join(LOOK_S)


def send_now(job: TrackerJob, say: Say) -> Link | None:
    """Send what a run's record lacks, once, and return where to see it. Raises `StoreError`.

    A run that is going on is left to its own tracker while there is one; None then if MLflow is away.
    """
    mind_manners()
    folder = Path(job.folder)
    if holder(folder) is not None and is_locked(folder / LOCK):
        say(f"{job.run}: running, and its own tracker sends it")
        with suppress(StoreError):  # which that tracker meets too, and waits for
            return None if job.target is None else _link_of(job, job.target)
        return None
    with Ledger.open(job.ledger_url, create=False) as ledger, turn(folder, TURN_S) as is_mine:
        source = Source(ledger, job.run, folder)
        failures = _send_beside(source, job.also, is_mine, say)
        link = None if job.target is None else _send_to_mlflow(source, job.target, is_mine, say)
    if failures:
        raise failures[0]
    return link


def _send_beside(
    source: Source, places: Sequence[Destination], is_mine: Callable[[], bool], say: Say
) -> list[TrackerError]:
    """Send what the places beside MLflow lack; one that fails holds up no other."""
    failures = []
    for to in places:
        try:
            num_values = sinks.catch_up(to, source.read, source.run, source.folder, source.url, is_mine)
            say(f"{source.run}: {to.name}: {f'{num_values} values sent' if num_values else 'up to date'}")
        except TrackerError as failed:
            failures.append(failed)
    return failures


def _send_to_mlflow(source: Source, target: Target, is_mine: Callable[[], bool], say: Say) -> Link:
    with speaking_of(target):
        record = MlflowRecord(target)
        sent = catch_up(source, record, is_mine)
    say(f"{source.run}: {f'{sent.num_values} values sent' if sent.num_values else 'up to date'}")
    if not record.has_view:
        say(f"{source.run}: MLflow does not take the view with our columns and charts; its plain list is shown")
    link = link_to(record, sent.entry)
    link.keep(source.folder)
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
        if target is None:  # what is beside the ledger's own folder is asked in a moment
            continue
        with suppress(StoreError), Ledger.open(url, create=False) as ledger, speaking_of(target):
            record = MlflowRecord(target)
            entries, read = record.curricula(), ledger.reading
            runs, times, specs = {run.name: run for run in read.runs()}, read.all_boundary_times(), read.all_specs()
            for job in jobs:
                run = runs.get(job.run) if (job.ledger_url, job.target) == (url, target) else None
                entry = None if run is None else entries.get(run.uid)
                if run is None or entry is None:
                    continue
                folder, at = Path(job.folder), times.get(run.name)
                if all(sinks.is_complete(to, run, at, folder) for to in job.also) and is_complete(
                    entry, run, at, specs[run.name], Source(ledger, run.name, folder)
                ):
                    found[job] = link_to(record, entry)
    return found


def _link_of(job: TrackerJob, target: Target) -> Link:
    """Find where a run is seen, without sending anything of it."""
    with Ledger.open(job.ledger_url, create=False) as ledger, speaking_of(target):
        record = MlflowRecord(target)
        return link_to(record, record.curriculum(ledger.reading.run(job.run).uid))


def forget(job: TrackerJob, uid: str | None) -> list[str]:
    """Have a run's tracker let go, and every place delete what it has of the run; names those that had anything.

    `uid` None: they keep it. Raises `StoreError`, with those of MLflow's places that could not be asked, the one of now
    and earlier ones: the others have deleted it.
    """
    folder = Path(job.folder)
    with turn(folder, TURN_S) if (folder / LOCK).exists() else nullcontext():
        if uid is None:
            return []
        had_any, failures = False, list[str]()
        for target in [*([job.target] if job.target is not None else []), *places.earlier(folder, job.target)]:
            try:
                had_any |= _forget_in_mlflow(target, uid)
            except TrackerError as failed:
                failures.append(f"{failed} What its experiment {target.experiment!r} has of the run stays.")
        if failures:
            raise TrackerError(" ".join(failures))
        return ["MLflow"] * had_any + [to.name for to in job.also if sinks.forget(to, folder, uid)]


def _forget_in_mlflow(target: Target, uid: str) -> bool:
    with speaking_of(target):
        record = MlflowRecord.of(target)
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


def _follow_to(outlet: Outlet, job: TrackerJob, is_mine: Callable[[], bool], say: Say) -> bool:
    """Keep one place up to date until the run is over; False if another tracker asks for the run before that.

    Raises `TrackerError` when it gives up.
    """
    folder = Path(job.folder)
    pauses = _Pauses(folder, is_mine, say)
    while is_mine():
        try:
            opened = Ledger.open(job.ledger_url, create=False)
        except LedgerAway as away:
            pauses.wait(away)
            continue
        with opened as ledger:
            return _follow(Source(ledger, job.run, folder), outlet, is_mine, say, pauses)
    return False


def _follow(source: Source, outlet: Outlet, is_mine: Callable[[], bool], say: Say, pauses: _Pauses) -> bool:
    is_whole = True

    def is_wanted() -> bool:
        nonlocal is_whole
        is_whole = is_whole and is_mine()
        return is_whole

    seen: tuple[Cursor, str, int | None] | None = None
    rest_until = 0.0
    while is_mine():
        try:
            with outlet.speaking():
                report = source.folder / REPORT
                until = covered(source.read, source.run)
                stands = status(source.read.run(source.run).status, source.folder)
                now = until, stands, report.stat().st_mtime_ns if report.is_file() else None
                is_over = stands != "running"
                if now != seen and (is_over or time.monotonic() >= rest_until):
                    is_whole = True
                    sent = outlet.send(source, is_wanted)
                    if not is_whole:
                        return False
                    say(f"{outlet.says}{sent.num_values} values sent, up to step {sent.step}; the run is {stands}")
                    seen, rest_until = now, time.monotonic() + outlet.rest_s
                    pauses.end()
            if is_over:
                return True
            time.sleep(LOOK_S)
        except TrackerRefused:
            raise
        except (TrackerError, LedgerAway) as away:
            outlet.drop()
            pauses.wait(away)
    return False
