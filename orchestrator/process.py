"""One process's time with a run: assembled, restored, run, stopped or failed. Signals and statuses live here."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from orchestrator import incidents
from orchestrator.assembly import Foundation, assemble, lay_foundation
from orchestrator.checkpointing import EXPECTED, MAY_BE, restore
from orchestrator.curriculum import Curriculum, Stop
from orchestrator.errors import DONE, RESUMABLE, StoppedEarly, UserError
from orchestrator.host import describe_host, differences
from orchestrator.inventory import refuse_exchanged
from orchestrator.memory import Memory
from orchestrator.parts import Parts
from orchestrator.progress import Progress
from orchestrator.provenance import KeptSpec
from orchestrator.signals import Signalled, catching_signals
from orchestrator.spec import Spec
from orchestrator.tracking import start_tracker
from orchestrator.watching import Watcher
from store import checkpoints, identity
from store.checkpoints import WEIGHTS, OpenCheckpoint
from store.home import Home
from store.ledger import Ledger, RunHandle
from store.lock import clear_stop, stop_requested
from store.records import DECISION, EnvironmentRecord, EventRecord, LineageRecord, MemberRecord, RunRecord


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


def _host(foundation: Foundation) -> dict[str, Any]:
    """What the run's bits depend on beside its spec, the versions of its environments included."""
    versions = {f"environment {name}": e.version for name, e in foundation.environments.items()}
    return {**describe_host(foundation.spec), **versions}


@dataclass(frozen=True)
class Kin:
    """What a new run is to others."""

    lineage: LineageRecord | None = None  # what it is forked from
    member: MemberRecord | None = None  # its place in a study
    baseline_of: str | None = None  # the run whose twin it is


ALONE = Kin()


def run_record(
    spec: Spec,
    kin: Kin,
    uid: str | None = None,
    host: Mapping[str, Any] | None = None,
    environments: Sequence[EnvironmentRecord] = (),
) -> RunRecord:
    """Describe a run for the ledger; `uid` None: a new one."""
    curriculum = spec.curriculum
    return RunRecord(
        uid=uid or uuid.uuid4().hex,
        name=spec.name,
        seed=spec.seed,
        model=spec.policy.model,
        objective=spec.objective.preset,
        scheduler=getattr(curriculum.scheduler, "type", None),
        bandit=curriculum.bandit.type,
        spec=spec.model_dump(mode="json", by_alias=True),
        environments=environments,
        host=host or {},
        **vars(kin),
    )


def new_run(spec: Spec, foundation: Foundation, kin: Kin) -> RunRecord:
    """Describe a new run, with what it is built on."""
    return run_record(spec, kin, None, _host(foundation), foundation.records())


def _begins_anew(part: str) -> EventRecord:
    return EventRecord("begins anew", f"begins anew, because the fork gave it another type: {part}")


class Process:
    """One process's time with a run, from taking the lock to letting it go."""

    def __init__(
        self, spec: Spec, ledger: Ledger, home: Home, folder: Path, watcher: Watcher, until_step: int | None
    ) -> None:
        self.spec, self.ledger, self.home, self.folder = spec, ledger, home, folder
        self.watcher, self.until_step = watcher, until_step

    def begin(self, foundation: Foundation, kin: Kin) -> Outcome:
        """Run from step 0."""
        warnings = [EventRecord("warning", text) for text in self.spec.warnings()]
        run = self.ledger.start_run(new_run(self.spec, foundation, kin))
        return self._go(run, foundation, None, [*warnings, *incidents.of_data(foundation.environments)])

    def go_on(
        self,
        foundation: Foundation | None = None,
        events: Sequence[EventRecord] = (),
        kept: KeptSpec | None = None,
    ) -> Outcome:
        """Run from the newest valid checkpoint, or from step 0 when there is none.

        `events` were before that; `kept`: what spec.yaml says of the spec that the run has, to be put right.
        """
        opened, found = self._newest_checkpoint()
        weights = opened[WEIGHTS].folder if opened else None
        foundation = foundation or lay_foundation(self.spec, weights, self.watcher.opening)
        run = self.ledger.open_run(self.spec.name, foundation.records())
        told = [*events, *found, *self._update_spec(run)]
        if kept is not None:
            told += kept.put_right(self.folder, self.spec)
        before = self.ledger.reading.host(self.spec.name)
        for difference in differences(before, _host(foundation)):
            text = f"{difference}: the run goes on, but not bit for bit as it would have"
            told.append(EventRecord("not bitwise", text))
        return self._go(run, foundation, opened, told)

    def _update_spec(self, run: RunHandle) -> list[EventRecord]:
        """Keep in the ledger what the run goes on with; say when it has another number of stages now."""
        before = self.ledger.reading.spec(self.spec.name)["curriculum"]["stages"]
        self.ledger.set_spec(run, self.spec.model_dump(mode="json", by_alias=True))
        now = self.spec.curriculum.stages
        return [] if now == before else [EventRecord(DECISION, f"{now} stages in all instead of {before}")]

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
        sections = self.spec.model_dump(mode="json", by_alias=True)
        identity.keep(self.ledger.reading, self.folder, self.spec.name, sections)
        tracker = start_tracker(self.spec.model_dump(mode="json"), self.home, self.spec.name)
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
        tracker.finish(self.watcher)
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
        with catching_signals(self.watcher.stopping) as signalled:
            stop = self._stop(signalled)
            with assemble(foundation, self.home, self.watcher, lambda: stop(progress)) as parts:
                anew = restore(parts, progress, opened) if opened else []
                at = (progress.step, progress.num_boundaries)
                self.ledger.rewind(run, *at)
                memory = Memory(self.ledger, run, self.folder, self.watcher, saved=at if opened else None)
                memory.record_events(progress, events)
                memory.record_events(progress, [_begins_anew(part) for part in anew])
                memory.restore_stage(parts, progress)
                memory.record_holdouts(parts)
                curriculum = Curriculum(parts, memory, progress)
                curriculum.welcome(self._joined(parts, progress))
                return curriculum.run(stop)

    def _joined(self, parts: Parts, progress: Progress) -> list[str]:
        """Name the environments that joined at a fork: the boundary just done did not measure them."""
        if progress.num_boundaries <= progress.stage:
            return []
        read, after = self.ledger.reading, progress.num_boundaries - 1
        if after not in {boundary.after_stage for boundary in read.boundaries(self.spec.name)}:
            return []  # the record lost it, so it does not tell
        measured = read.measured(self.spec.name, after)
        return [name for name in parts.environments if name not in measured]

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
        refuse_exchanged(self.folder, [one.record for one in skipped])
        events = [
            EventRecord(
                "checkpoint passed over",
                f"the checkpoint of step {one.record.step} is not used: {one.reason}",
            )
            for one in skipped
        ]
        run = self.ledger.reading.run(self.spec.name)
        if record is None and run.parent is not None:
            raise UserError(
                f"{run.name} has no whole checkpoint left: fork {run.parent} again after stage {run.parent_stage}"
            )
        if record is None:
            return None, [*events, EventRecord("resumed", "no checkpoint yet: the run begins at step 0")]
        begun_at = (run.parent_stage or 0) + 1
        is_new = run.parent is not None and record.kind == "boundary" and record.num_boundaries == begun_at
        text = (
            f"forked from {run.parent} after stage {run.parent_stage}"
            if is_new
            else f"resumed from the checkpoint of step {record.step}, with the spec the run began with"
        )
        events.append(EventRecord(DECISION if is_new else "resumed", text))
        return checkpoints.open_checkpoint(self.folder / record.folder, EXPECTED, MAY_BE), events
