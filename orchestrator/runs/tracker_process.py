"""Between a spec and the tracker: where a run's record goes, and a process of its own that brings it there.

The trainer starts the process, and at its end waits a little. Nothing of MLflow is loaded here.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from orchestrator.callbacks import Callback
from orchestrator.errors import UserError
from orchestrator.locations import Sections, completed_url, kinds_of
from orchestrator.os_signals import interruptible
from orchestrator.runs.catalog import SPEC_FILE, is_run, sections_of
from store.errors import StoreError
from store.home import Home
from store.ledger import Ledger
from store.sentences import listed
from store.tracker.daemon import TrackerJob
from store.tracker.record import Target, is_server
from store.tracker.sinks import Destination, missing
from store.tracker.sync import Say

WAIT_S = 30.0  # at a run's end
LOG = "tracker.log"  # in the run's folder
# `orchestrator` comes first, so that no `store` of the user's on PYTHONPATH takes the place of ours.
BEGIN = "import orchestrator, runpy; runpy.run_module('store.tracker', run_name='__main__', alter_sys=True)"


def job_of(spec: Sections, home: Home, name: str) -> TrackerJob | None:
    """Say what to send where, from a resolved spec's sections; None where the spec wants no tracker."""
    section = spec.get("tracker") or {}
    kinds, experiment = kinds_of(section), section.get("experiment") or "evergreen"
    if not kinds:
        return None
    target = None
    if "mlflow" in kinds:
        uri = completed_url(spec, "tracker", home.mlflow_uri)
        target = Target(uri, experiment, None if is_server(uri) else home.mlflow_artifacts.as_uri())
    also = tuple(Destination(kind, str(home.path), experiment) for kind in kinds if kind != "mlflow")
    ledger_url = completed_url(spec, "ledger", home.ledger_url)
    return TrackerJob(name, str(home.run_folder(name)), ledger_url, target, also)


def require_trackers(kinds: Iterable[str]) -> None:
    """Refuse a record that needs what is not installed. Raises UserError."""
    for kind in kinds:
        if kind != "mlflow" and (remedy := missing(kind)) is not None:
            raise UserError(f"tracker: {remedy}; or name another, as by `--set tracker=none`")


def jobs(home: Home, only: str | None = None, refuse: Say | None = None) -> list[TrackerJob]:
    """Find every run of a home that has a tracker, or one run, by the spec in the ledger, else that in its folder.

    A run of which nothing tells where its record goes is told by `refuse`, and does not keep the others; without
    `refuse` it raises UserError or StoreError.
    """
    specs = sorted(home.path.glob(f"{only or '*'}/{SPEC_FILE}"))
    known: Mapping[str, Sections] = {}
    with suppress(StoreError), Ledger.open(home.ledger_url, create=False) as ledger:
        known = ledger.reading.all_specs(None if only is None else [only])
    found = list[TrackerJob | None]()
    for path in specs:
        name = path.parent.name
        try:
            if is_run(path.parent):
                found.append(job_of(known.get(name) or _sections_of(path), home, name))
        except (UserError, StoreError) as error:
            if refuse is None:
                raise
            refuse(f"{name}: {error}")
    return [job for job in found if job is not None]


def _sections_of(spec: Path) -> Sections:
    """Read a run's spec from its folder, where its tracker's section may have been edited to anything."""
    found = sections_of(spec)
    tracker = found.get("tracker") or {}
    if not isinstance(tracker, Mapping) or not isinstance(tracker.get("uri"), str | None):
        raise UserError(f"{spec} is not the spec of a run: it names no tracker")
    return found


class TrackerProcess:
    """A run's tracker, seen from the trainer; it is started if the run's spec wants one."""

    def __init__(self, spec: Sections, home: Home, name: str) -> None:
        self._job = job_of(spec, home, name)
        self.process = None if self._job is None else _start(self._job)

    def finish(self, watcher: Callback) -> None:
        """Give the tracker some time to send the rest; it goes on by itself after that. Ctrl-C ends the wait."""
        if self.process is None or self._job is None:
            return
        whose = listed([*(["MLflow"] if self._job.target else []), *(to.name for to in self._job.also)])
        watcher.phase(f"sending the rest of the record to {whose}, for at most {WAIT_S:.0f} s")
        remedy = f"`evergreen ui` or `evergreen resume {self._job.run}` brings it up to date"
        try:
            with interruptible():
                code = self.process.wait(WAIT_S)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            said = f"the record in {whose} is not complete yet; its tracker goes on for a while"
            watcher.event([f"{said}, and {remedy}"])
            return
        if code:
            log = Path(self._job.folder) / LOG
            lines = log.read_text(errors="replace").strip().splitlines() or ["it ended without a word"]
            watcher.event([f"the record in {whose} is not complete: {lines[-1]} ({log}); {remedy}"])


def _start(job: TrackerJob) -> subprocess.Popen[str]:
    """Start the process: in a session of its own, so that Ctrl-C does not reach it. Takes milliseconds.

    `-P` keeps the folder that the user happens to be in from lending it modules.
    """
    command = [sys.executable, "-P", "-c", BEGIN, job.run]
    with (Path(job.folder) / LOG).open("a") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, text=True, start_new_session=True
        )
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin as pipe:  # one that died already is reported at the end
        pipe.write(job.as_json())
    return process
