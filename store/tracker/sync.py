"""One pass: bring MLflow's record of a run to what its ledger holds for certain."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from store.ledger import Ledger, Reading
from store.ledger.query_rows import RunRow, StageRow
from store.run_status import status
from store.secrets import url_without_logins
from store.tracker import artifacts, names, places
from store.tracker.names import Spec, milliseconds
from store.tracker.pages import Cursor, HistoryPages, Page, covered
from store.tracker.record import CURSOR, REACH, MlflowRecord, MlflowRun

Say = Callable[[str], None]

STATUS = {  # the ledger's words, `killed` for a run whose process is gone, `removing` for one that is on its way out
    "running": "RUNNING",
    "finished": "FINISHED",
    "stopped": "KILLED",
    "killed": "KILLED",
    "failed": "FAILED",
    "removing": "KILLED",
}
LOOKS = {names.SETTING, names.SEED, names.COLOUR}  # tags that MLflow's pages group and colour runs by
CAVEATS = {names.TASKS_CHANGED, names.MISSING}  # tags that are there, whatever they say
_REPORT = "evergreen.report"  # tag: a hash of the report that was sent last
_STATUS = "evergreen.status"


@dataclass(frozen=True)
class Source:
    """A run, where it is remembered."""

    ledger: Ledger
    run: str
    folder: Path  # the run's own

    @property
    def read(self) -> Reading:
        """Ask its ledger."""
        return self.ledger.reading

    @property
    def url(self) -> str:
        """Name its ledger, without a password."""
        return url_without_logins(self.ledger.engine.url.render_as_string())


@dataclass(frozen=True)
class SyncResult:
    """What a pass did."""

    num_values: int
    entry: MlflowRun  # the curriculum's run in MLflow
    step: int  # how far its record goes now


def catch_up(source: Source, record: MlflowRecord, is_wanted: Callable[[], bool] = lambda: True) -> SyncResult:
    """Send what the record lacks. Stops between two pages when it is no longer wanted.

    Whatever fails, the next pass goes on where the cursor is. It moves after the values, so a page may be sent
    twice; MLflow keeps one of equal points. The reach is set before them: where the run has another history up to there
    since, some of the points may be the old one's, and the record is made anew.
    """
    places.remember(source.folder, record.target)
    return _SyncPass(source, record).run(is_wanted)


def is_complete(entry: MlflowRun, run: RunRow, boundary_at: str | None, spec: Spec, source: Source) -> bool:
    """Whether a pass over a run that is finished, its last boundary written at this time, would change nothing.

    Asks nobody, so that many runs are looked at together. Of a run that is not finished, False: a pass finds out.
    """
    end = Cursor(run.num_steps, run.num_boundaries, run.last_step_at, boundary_at)
    return (
        run.status == "finished" == entry.tags.get(_STATUS) == status(run.status, source.folder)
        and _cursor(entry) == end
        and entry.tags.get(_REPORT) == _report_hash(source.folder)
        and entry.tags.items() >= names.tags(run, spec, source.url).items()
        and entry.tags.keys() >= LOOKS | CAVEATS
        and entry.params.keys() >= names.params(run, spec).keys()
    )


class _SyncPass:
    """What one pass knows: the ledger's history as it is now, and MLflow's runs for it."""

    def __init__(self, source: Source, record: MlflowRecord) -> None:
        self.source, self.record = source, record
        self.until = covered(source.read, source.run)
        self.history = HistoryPages(source.read, source.read.run(source.run))
        self.spec = source.read.spec(source.run)
        self.entry = self._curriculum()
        self.stages = record.stages(self.entry)
        self.sent = _cursor(self.entry)

    def run(self, is_wanted: Callable[[], bool]) -> SyncResult:
        """Go through all pages."""
        num_values = 0
        for page in self.history.pages(self.sent, self.until):
            if not is_wanted():
                return SyncResult(num_values, self.entry, self.sent.step)
            num_values += self._send(page)
            self.sent = page.end
        self._send_report()
        self._conclude()
        return SyncResult(num_values, self.entry, self.sent.step)

    def _curriculum(self) -> MlflowRun:
        """Find or make the curriculum's run; the record of a history that was rewritten since is made anew."""
        run = self.history.run
        entry = self.record.curriculum(run.uid)
        reach = Cursor() if entry is None else Cursor.from_tag(entry.tags.get(REACH))  # earlier versions set none
        if entry is not None and not (self.history.has(_cursor(entry)) and self.history.has(reach)):
            self.record.forget(entry)
            entry, reach = None, Cursor()
        reach = self.history.further(reach, self.until)
        caveats = names.caveats(self.source.read.task_sets(run.name), self.source.read.gaps(run.name))
        own = {**names.tags(run, self.spec, self.source.url), **caveats, REACH: reach.as_tag()}
        if entry is None:
            tags = {"mlflow.note.content": names.note(run, self.spec), **own}
            entry = self.record.begin(run.name, milliseconds(run.created_at), tags)
        if not entry.tags.keys() >= LOOKS:  # a colour that somebody chose stays
            looks = names.looks(run, self.source.read.runs())
            self.record.tag(entry, {key: value for key, value in looks.items() if key not in entry.tags})
        self.record.describe(entry, names.params(run, self.spec))
        self.record.tag(entry, own)
        return entry

    def _stage(self, stage: StageRow) -> MlflowRun:
        run, trainer = self.history.run, self.source.read.trainer(self.source.run, stage.stage)
        if stage.stage not in self.stages:
            name, tags = names.stage_name(run, stage), names.stage_tags(run, stage, self.entry.id, trainer.name)
            self.stages[stage.stage] = self.record.begin(name, milliseconds(stage.started_at), tags)
        entry, spec = self.stages[stage.stage], self.source.read.spec(trainer.name)
        self.record.describe(entry, names.params(trainer, spec) | names.stage_params(stage, spec))
        return entry

    def _send(self, page: Page) -> int:
        """Send a page, then the files of its last boundary if no later one is to come, then move the cursor."""
        for number, points in page.stages.items():
            self.record.write(self._stage(self.history.stages[number]), points)
        self.record.write(self.entry, page.curriculum)
        if page.boundaries and page.end.num_boundaries == self.until.num_boundaries:
            with tempfile.TemporaryDirectory() as folder:
                artifacts.write(Path(folder), self.history, page.end, self.source.folder)
                self.record.attach(self.entry, Path(folder))
        self.record.move_cursor(self.entry, page.end.as_tag())
        return sum(map(len, page.stages.values())) + len(page.curriculum)

    def _send_report(self) -> None:
        sha256 = _report_hash(self.source.folder)
        if sha256 is not None and self.entry.tags.get(_REPORT) != sha256:
            with tempfile.TemporaryDirectory() as folder:
                artifacts.copy_report(self.source.folder, Path(folder))
                self.record.attach(self.entry, Path(folder))
            self.record.tag(self.entry, {_REPORT: sha256})

    def _conclude(self) -> None:
        """Give the curriculum and its stages the status that the run has by now."""
        run = self.history.run
        word = status(run.status, self.source.folder)
        last_word = run.ended_at or run.last_step_at or run.created_at  # one that was killed said no other
        ended_ms = None if word == "running" else milliseconds(last_word)
        for number, own in self.stages.items():
            stage = self.history.stages.get(number)
            if stage is None:  # lost with a ledger, and concluded before that
                continue
            if number < self.sent.num_boundaries and stage.ended_at is not None:
                self.record.conclude(own, STATUS["finished"], milliseconds(stage.ended_at))
            else:
                self.record.conclude(own, STATUS[word], ended_ms)
        self.record.conclude(self.entry, STATUS[word], ended_ms)
        self.record.tag(self.entry, {_STATUS: word})


def _report_hash(folder: Path) -> str | None:
    """Hash a run's report; None where there is none."""
    report = folder / artifacts.REPORT
    return hashlib.sha256(report.read_bytes()).hexdigest() if report.is_file() else None


def _cursor(entry: MlflowRun) -> Cursor:
    return Cursor.from_tag(entry.tags.get(CURSOR))
