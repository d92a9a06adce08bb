"""The life of a run: begin, go on, stop, end. Locks, signals and statuses live here; the loop does not."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from orchestrator.assembly import Foundation, assemble, lay_foundation
from orchestrator.checkpointing import EXPECTED, restore
from orchestrator.curriculum import Curriculum, Stop
from orchestrator.errors import DONE, RESUMABLE, StoppedEarly
from orchestrator.host import describe_host, differences
from orchestrator.memory import Memory
from orchestrator.progress import Progress
from orchestrator.runs import SPEC_FILE, existing
from orchestrator.signals import Signalled, catching_signals
from orchestrator.spec import Spec, load_spec
from orchestrator.spec.load import change_resources
from orchestrator.watching import Watcher
from store import checkpoints
from store.checkpoints import OpenCheckpoint
from store.files import write_text
from store.home import Home
from store.ledger import Ledger, RunHandle
from store.lock import RunLock, clear_stop, stop_requested
from store.records import EventRecord, RunRecord


@dataclass(frozen=True)
class Outcome:
    """How a run ended, for now."""

    name: str
    folder: Path
    status: Literal["finished", "stopped"]
    reason: str | None = None  # why it stopped

    @property
    def exit_code(self) -> int:
        """0, or 75 for stopped and resumable."""
        return DONE if self.status == "finished" else RESUMABLE


def run(
    spec: str | Path | Mapping[str, Any] | Spec,
    overrides: Sequence[str] = (),
    home: str | Path = "runs",
    until_step: int | None = None,
    watcher: Watcher | None = None,
) -> Outcome:
    """Run a curriculum to its end, or until it is asked to stop."""
    checked = load_spec(spec, overrides)
    place, watcher = Home(home), watcher or Watcher()
    with Ledger.open(checked.ledger.url or place.ledger_url) as ledger:
        foundation = lay_foundation(checked)  # before anything is written: bad input leaves no run behind
        taken = [run.name for run in ledger.reading.runs()]
        name = place.free_name(checked.name, taken)
        checked = checked.model_copy(update={"name": name})
        folder = place.make_run_folder(name)
        with RunLock(folder):
            write_text(folder / SPEC_FILE, as_yaml(checked))
            return _Process(checked, ledger, place, folder, watcher, until_step).begin(foundation)


def resume(
    name: str,
    overrides: Sequence[str] = (),
    home: str | Path = "runs",
    until_step: int | None = None,
    watcher: Watcher | None = None,
) -> Outcome:
    """Go on from the newest valid checkpoint; a finished run stays as it is."""
    place, watcher = Home(home, create=False), watcher or Watcher()
    folder = existing(place, name)
    written = load_spec(folder / SPEC_FILE)
    with Ledger.open(written.ledger.url or place.ledger_url) as ledger:
        spec = change_resources(written, overrides)
        known = {run.name: run.status for run in ledger.reading.runs()}
        if known.get(name) == "finished":
            watcher.end(name, "finished", None)
            return Outcome(name, folder, "finished")
        with RunLock(folder):
            write_text(folder / SPEC_FILE, as_yaml(spec))
            process = _Process(spec, ledger, place, folder, watcher, until_step)
            if name not in known:  # killed between its folder and its ledger row
                return process.begin(lay_foundation(spec))
            return process.go_on()


def as_yaml(spec: Spec) -> str:
    """Write the resolved spec as a file that `run` reads."""
    return yaml.safe_dump(spec.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True)


def _host(foundation: Foundation) -> dict[str, Any]:
    """What the run's bits depend on beside its spec, the versions of its environments included."""
    versions = {f"environment {name}": e.version for name, e in foundation.environments.items()}
    return {**describe_host(foundation.spec), **versions}


class _Process:
    """One process's time with a run, from taking the lock to letting it go."""

    def __init__(
        self, spec: Spec, ledger: Ledger, home: Home, folder: Path, watcher: Watcher, until_step: int | None
    ) -> None:
        self.spec, self.ledger, self.home, self.folder = spec, ledger, home, folder
        self.watcher, self.until_step = watcher, until_step

    def begin(self, foundation: Foundation) -> Outcome:
        """Run from step 0."""
        curriculum = self.spec.curriculum
        record = RunRecord(
            uid=uuid.uuid4().hex,
            name=self.spec.name,
            seed=self.spec.seed,
            model=self.spec.policy.model,
            objective=self.spec.objective.preset,
            scheduler=getattr(curriculum.scheduler, "type", None),
            bandit=curriculum.bandit.type,
            spec=self.spec.model_dump(mode="json", by_alias=True),
            environments=foundation.records(),
            host=_host(foundation),
        )
        warnings = [EventRecord("warning", text) for text in self.spec.objective.warnings()]
        return self._go(self.ledger.start_run(record), foundation, None, warnings)

    def go_on(self) -> Outcome:
        """Run from the newest valid checkpoint, or from step 0 when there is none."""
        opened, events = self._newest_checkpoint()
        foundation = lay_foundation(self.spec, opened["weights"].folder if opened else None)
        run = self.ledger.open_run(self.spec.name, foundation.records())
        before = self.ledger.reading.host(self.spec.name)
        for difference in differences(before, _host(foundation)):
            text = f"{difference}: the run goes on, but not bit for bit as it would have"
            events.append(EventRecord("not bitwise", text))
        return self._go(run, foundation, opened, events)

    def _go(
        self,
        run: RunHandle,
        foundation: Foundation,
        opened: OpenCheckpoint | None,
        events: Sequence[EventRecord],
    ) -> Outcome:
        """Assemble, restore, run; whatever happens, the ledger tells how it ended."""
        progress = Progress(self.spec.curriculum.stages, self.spec.curriculum.stage.steps)
        self.watcher.begin(self.spec.name, str(self.folder))
        clear_stop(self.folder)
        self.ledger.set_status(run, "running")
        try:
            reason = self._run(run, foundation, opened, events, progress)
        except StoppedEarly as stopped:
            reason = str(stopped)
        except Exception as error:
            self.ledger.record_event(run, progress.step, EventRecord("failed", str(error)))
            self.ledger.set_status(run, "failed")
            self.watcher.end(self.spec.name, "failed", str(error))
            raise
        if reason is not None:
            self.ledger.record_event(run, progress.step, EventRecord("stopped", reason))
        outcome = Outcome(self.spec.name, self.folder, "finished" if reason is None else "stopped", reason)
        self.ledger.set_status(run, outcome.status)
        clear_stop(self.folder)
        self.watcher.end(outcome.name, outcome.status, reason)
        return outcome

    def _run(
        self,
        run: RunHandle,
        foundation: Foundation,
        opened: OpenCheckpoint | None,
        events: Sequence[EventRecord],
        progress: Progress,
    ) -> str | None:
        """Put the parts together and go through the curriculum; why it stopped, or None at its end."""
        with catching_signals() as signalled:
            stop = self._stop(signalled)
            with assemble(foundation, self.home, self.watcher, lambda: stop(progress)) as parts:
                if opened is not None:
                    restore(parts, progress, opened)
                at = (progress.step, progress.num_boundaries)
                self.ledger.rewind(run, *at)
                checkpoints.prepare(self.folder, self.ledger.checkpoints(run))
                memory = Memory(self.ledger, run, self.folder, self.watcher, saved=at if opened else None)
                memory.record_events(progress, events)
                memory.record_holdouts(parts)
                return Curriculum(parts, memory, progress).run(stop)

    def _stop(self, signalled: Signalled) -> Stop:
        """Ask, before every step, whether to stop; the answer is the reason."""

        def stop(at: Progress) -> str | None:
            if signalled.name:
                return signalled.name
            if stop_requested(self.folder):
                return "asked to stop"
            if self.until_step is not None and at.step >= self.until_step:
                return f"--until-step {self.until_step}"
            return None

        return stop

    def _newest_checkpoint(self) -> tuple[OpenCheckpoint | None, list[EventRecord]]:
        """Open the newest checkpoint whose files are whole; tell which were passed over, and why."""
        records = self.ledger.reading.checkpoints(self.spec.name)
        record, skipped = checkpoints.newest_valid(self.folder, records)
        events = [
            EventRecord(
                "checkpoint passed over",
                f"the checkpoint of step {one.record.step} is not used: {one.reason}",
            )
            for one in skipped
        ]
        if record is None:
            return None, [*events, EventRecord("resumed", "no checkpoint yet: the run begins at step 0")]
        text = f"resumed from the checkpoint of step {record.step}, with the spec the run began with"
        events.append(EventRecord("resumed", text))
        return checkpoints.open_checkpoint(self.folder / record.folder, EXPECTED), events
