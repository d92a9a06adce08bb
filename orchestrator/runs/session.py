"""One process's time with a run: assembled, restored, run, stopped or failed. Signals and statuses live here."""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from orchestrator.callbacks import Callback, Watchers
from orchestrator.choosing.choice import OTHER_TASKS
from orchestrator.components import Components
from orchestrator.curriculum import Curriculum
from orchestrator.errors import DIVERGED, DONE, RESUMABLE, StoppedEarly, UserError
from orchestrator.os_signals import Signalled, catching_signals
from orchestrator.progress import Progress
from orchestrator.recording import events as run_events
from orchestrator.recording import outbox
from orchestrator.recording.checkpoint import THINNED, restore
from orchestrator.recording.outbox import Outbox
from orchestrator.recording.recorder import RunRecorder
from orchestrator.recording.saved_state import EXPECTED, MAY_BE
from orchestrator.rollout.task_supply import check_supply
from orchestrator.runs import stop_reasons
from orchestrator.runs.assembly import Foundation, assemble, lay_foundation
from orchestrator.runs.catalog import inventory
from orchestrator.runs.disk_use import DiskUse
from orchestrator.runs.environments import keep_slices
from orchestrator.runs.kept_spec import KeptSpec
from orchestrator.runs.provenance import ENVIRONMENT, RunRelations, changed_code, changed_environments, differences
from orchestrator.runs.ranks import noticing_lost
from orchestrator.runs.recovery import refuse_exchanged
from orchestrator.runs.tracker_process import TrackerProcess
from orchestrator.spec import Spec
from orchestrator.webhook import Webhook, url_from
from policies.errors import NonFiniteLogits
from store import checkpoints, identity, overview
from store.checkpoint_copies import CheckpointCopier, fetch_back
from store.checkpoints import WEIGHTS, OpenCheckpoint, Skipped
from store.errors import CheckpointError, HomeError, LedgerAway, StoreError
from store.home import Home
from store.ledger import Ledger, RunHandle
from store.lock import clear_stop, stop_requested
from store.records import DECISION, CheckpointRecord, EventRecord

GARBAGE_AFTER = 50_000  # objects, instead of Python's 700: a step makes thousands, hardly ever in cycles


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


def ended(name: str, folder: Path, watcher: Callback, reason: str | None) -> Outcome:
    """Say that a run has stopped, and why; None: it is finished."""
    outcome = Outcome(name, folder, "finished" if reason is None else "stopped", reason)
    watcher.end(name, outcome.status, reason)
    return outcome


@contextmanager
def collecting_rarely() -> Iterator[None]:
    """Look for garbage in cycles rarely, and not among what is there already.

    That is up to a tenth of the time of a small step, and a fifth of a start with a hundred environments.
    """
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(GARBAGE_AFTER, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


class RunSession:
    """One process's time with a run, from taking the lock to letting it go."""

    def __init__(
        self, spec: Spec, ledger: Ledger, home: Home, folder: Path, watcher: Callback, until_step: int | None
    ) -> None:
        self.spec, self.ledger, self.home, self.folder = spec, ledger, home, folder
        self.watcher, self.until_step = watcher, until_step
        if (variable := spec.guards.webhook) is not None:
            self.watcher = Watchers([watcher, Webhook(url_from(variable), watcher)])
        ledger.patience.tell = lambda text: self.watcher.event([text])
        self._newest: CheckpointRecord | None = None  # which the run goes on from
        self._outbox: Outbox | None = None  # what the ledger lacks of the checkpoint that is opened
        self._diverged: Sequence[CheckpointRecord] = ()  # whole checkpoints that the run goes back behind
        self._told: Collection[str] = ()  # texts of events, before this process
        self._told_at: Collection[tuple[int, str]] = ()  # the same, with their steps
        self._changed: Collection[str] = ()  # environments that are not what they were when the run began

    def begin(self, foundation: Foundation, relations: RunRelations) -> Outcome:
        """Run from step 0."""
        return self._or_stop(lambda: self._begin(foundation, relations))

    def go_on(
        self,
        foundation: Foundation | None = None,
        events: Sequence[EventRecord] = (),
        kept: KeptSpec | None = None,
    ) -> Outcome:
        """Run from the newest valid checkpoint, or from step 0 when there is none.

        `events` were before that; `kept`: what spec.yaml says of the spec that the run has, to be put right.
        """
        return self._or_stop(lambda: self._go_on(foundation, events, kept))

    def _or_stop(self, act: Callable[[], Outcome]) -> Outcome:
        """Let a run whose ledger stays away end as one that stopped: what it did is durable without the ledger."""
        try:
            return act()
        except LedgerAway as away:
            return ended(self.spec.name, self.folder, self.watcher, str(away))
        finally:
            _refresh_index(self.home, self.watcher)

    def _begin(self, foundation: Foundation, relations: RunRelations) -> Outcome:
        warnings = self._warnings()
        run = self.ledger.start_run(foundation.new_run(self.spec, relations))
        use = DiskUse.of(self.spec, foundation.environments, foundation.policy_size, self.folder)
        if (shortage := use.shortage) is not None:
            warnings.append(EventRecord("warning", shortage))
        events = [*warnings, *run_events.of_data(foundation.environments, foundation.remarks)]
        return self._go(run, foundation, None, events)

    def _go_on(self, foundation: Foundation | None, events: Sequence[EventRecord], kept: KeptSpec | None) -> Outcome:
        opened, found = self._newest_checkpoint()
        weights = opened.components[WEIGHTS] if opened else None
        begun = self.spec.environments if opened else ()
        foundation = foundation or lay_foundation(self.spec, weights, self.watcher.opening, begun, self.folder)
        run = self.ledger.open_run(self.spec.name, foundation.records())
        stages = self.spec.curriculum.stages
        stages_before = self.ledger.reading.spec(self.spec.name)["curriculum"]["stages"]
        self.ledger.set_spec(run, self.spec.kept())
        happened = [*events, *found]
        if stages != stages_before:
            happened.append(EventRecord(DECISION, run_events.of_length(self.spec, stages_before)))
        if kept is not None:
            happened += kept.put_right(self.folder, self.spec)
        before = self.ledger.reading.host(self.spec.name)
        self._changed = changed_environments(before, foundation.host)
        for difference in differences(before, foundation.host):
            text = f"{difference}: the run goes on, but not bit for bit as it would have"
            happened.append(EventRecord("not bitwise", text))
        for part in changed_code(before, foundation.host):
            happened.append(EventRecord("not bitwise", run_events.of_code(part, part.startswith(ENVIRONMENT))))
        told = self.ledger.reading.events(self.spec.name)
        self._told = {event.text for event in told}
        self._told_at = {(event.step, event.text) for event in told}
        if opened is None:  # what a run says where it begins was lost, if it ended before its first step
            news, remarks = foundation.environments, foundation.remarks
            happened += [warning for warning in self._warnings() if warning.text not in self._told]
        else:
            news = {name: one for name, one in foundation.environments.items() if name in self._changed}
            remarks = check_supply(self.spec, news, foundation.prompts)
        happened += run_events.of_changed_data(news, remarks, told)
        return self._go(run, foundation, opened, happened)

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
        self.ledger.set_status(run, "running")
        sections = self.spec.model_dump(mode="json", by_alias=True)
        identity.keep(self.ledger.reading, self.folder, self.spec.name, sections)
        tracker = TrackerProcess(self.spec.model_dump(mode="json"), self.home, self.spec.name)
        try:
            try:
                reason = self._run(run, foundation, opened, events, progress)
            except NonFiniteLogits as error:  # nothing is kept of the step that found it
                saved = self.ledger.checkpoints(run)
                incident = stop_reasons.divergence_event(error, progress, self.spec, self.folder, saved)
                self.ledger.record_event(run, progress.step, incident)
                self.watcher.event([incident.text])
                reason = f"{DIVERGED} {progress.step}"
        except StoppedEarly as stopped:
            reason = str(stopped)
        except LedgerAway:
            raise
        except Exception as error:
            cause = stop_reasons.outside_cause(error, self.ledger.reading, self.spec.name, self.folder)
            status: Literal["stopped", "failed"] = "stopped" if cause else "failed"
            said = cause or stop_reasons.failure(error)
            with suppress(StoreError) if cause else nullcontext():  # the ledger may be on a full disk
                self.ledger.record_event(run, progress.step, EventRecord(status, said))
                self.ledger.set_status(run, status)
            if cause is None:
                self.watcher.end(self.spec.name, status, said)
                raise
            return ended(self.spec.name, self.folder, self.watcher, cause)
        if reason is not None:
            self.ledger.record_event(run, progress.step, EventRecord("stopped", reason))
        self.ledger.set_status(run, "finished" if reason is None else "stopped")
        clear_stop(self.folder)
        tracker.finish(self.watcher)
        return ended(self.spec.name, self.folder, self.watcher, reason)

    def _run(
        self,
        run: RunHandle,
        foundation: Foundation,
        opened: OpenCheckpoint | None,
        events: Sequence[EventRecord],
        progress: Progress,
    ) -> str | None:
        """Put the parts together and go through the curriculum; why it stopped, or None at its end."""

        def stop(at: Progress) -> str | None:
            is_enough = self.until_step is not None and at.step >= self.until_step
            return self._asked(signalled) or (f"--until-step {self.until_step}" if is_enough else None)

        with catching_signals(self.watcher.stopping) as signalled:
            self.ledger.patience.interruption = lambda: self._asked(signalled)
            named = replace(foundation, spec=self.spec)  # it was laid before the run had its name
            with assemble(named, self.home, self.watcher, lambda: stop(progress)) as parts:
                anew = restore(parts, progress, opened, self._told) if opened else []
                if opened:
                    self.watcher.restored(progress)
                keep_slices(foundation.environments, self.folder)  # behind what may refuse the data as it is now
                at = (progress.step, progress.num_boundaries)
                saved = at if opened else None
                copy_to = self.spec.checkpoint.copy_to
                copier = None if copy_to is None else CheckpointCopier(copy_to, self.folder)
                with RunRecorder(self.ledger, run, self.folder, self.watcher, saved, copier) as recorder:
                    aside = self._rewind(run, recorder, parts, progress, copier)
                    why = [text for text in map(_why_anew, anew) if (progress.step, text) not in self._told_at]
                    others = [EventRecord("begins anew", text) for text in why]
                    joined = run_events.of_joined(parts.tasks.joined)
                    recorder.record_events(progress, [*events, *aside, *others, *joined])
                    progress.forget_too_long(self._changed)
                    prompts = run_events.of_prompts(progress.too_long, foundation.prompts)
                    recorder.record_events(progress, [event for event in prompts if event.text not in self._told])
                    before = self.ledger.reading.task_sets(run.name)
                    changed = run_events.of_changed_tasks(before, recorder.record_holdouts(parts, before))
                    recorder.record_events(progress, [event for event in changed if event.text not in self._told])
                    recorder.restore_stage(parts, progress)
                    parts.interventions.require_origins(progress)
                    curriculum = Curriculum(parts, recorder, progress)
                    try:
                        with collecting_rarely(), noticing_lost(parts.learner.work):
                            curriculum.welcome(self._joined(parts, progress))
                            reason = curriculum.run(stop)
                    except LedgerAway as away:
                        recorder.keep_outbox(parts, progress, str(away))
                        raise
                    except Exception:
                        with suppress(Exception):  # what failed may be what these need, and is told already
                            recorder.settle(parts)
                        with suppress(StoreError):  # the ledger may be what failed
                            recorder.complete_report(progress)
                        raise
                    recorder.complete_report(progress)  # a resumed run may have lacked nothing but that
                    recorder.finish_copies(progress)  # a second Ctrl-C waits for nothing
                    return reason

    def _rewind(
        self,
        run: RunHandle,
        recorder: RunRecorder,
        parts: Components,
        progress: Progress,
        copier: CheckpointCopier | None,
    ) -> list[EventRecord]:
        """Take back what the ledger and the folder have of a time after the checkpoint; enter what the ledger lacks.

        Returns what is to be told of that.
        """
        if self._outbox is not None:
            recorder.record_holdouts(parts, self.ledger.reading.task_sets(run.name))
            self._outbox.tell(self.ledger, run, self.folder)
        # first: once the ledger has forgotten why, a resume would take them for the newest
        aside = [checkpoints.put_aside(self.folder / one.folder) for one in self._diverged]
        is_before = progress.awaits_intervention
        self.ledger.rewind(run, progress.step, progress.num_boundaries, is_before_intervening=is_before)
        if copier is not None:
            copier.go_back_to("" if self._newest is None else Path(self._newest.folder).name)
        outbox.forget(self.folder)
        if not aside:
            return []
        text = f"what diverged is kept aside, and no resume takes it: {', '.join(aside)}"
        return [EventRecord("checkpoint passed over", text)]

    def _joined(self, parts: Components, progress: Progress) -> list[str]:
        """Name the environments that join at the boundary that a fork begins at, and are not measured yet.

        They are new to the run that came to that boundary. That no record measured them says nothing: a boundary may
        leave environments out, and earlier ones may be lost with a ledger.
        """
        if progress.num_boundaries <= progress.stage:
            return []
        read, after = self.ledger.reading, progress.num_boundaries - 1
        came_there = read.run(self.spec.name)
        while came_there.parent is not None and came_there.parent_stage == after:
            came_there = read.run(came_there.parent)
        known = read.spec(came_there.name)["environments"]
        new = [name for name in parts.environments if name not in known]
        if not new or after not in {boundary.after_stage for boundary in read.boundaries(self.spec.name)}:
            return []  # without the boundary there is nothing that they could join
        measured = read.measured(self.spec.name)
        return [name for name in new if name not in measured]

    def _warnings(self) -> list[EventRecord]:
        return [EventRecord("warning", text) for text in self.spec.warnings()]

    def _asked(self, signalled: Signalled) -> str | None:
        return signalled.name or ("asked to stop" if stop_requested(self.folder) else None)

    def _newest_checkpoint(self) -> tuple[OpenCheckpoint | None, list[EventRecord]]:
        """Open the newest checkpoint of whole files and healthy weights; tell which were passed over, and why."""
        found, events = self._find_outbox()
        records = [*found, *self.ledger.reading.checkpoints(self.spec.name)]
        told = self.ledger.reading.events(self.spec.name)
        diverged = stop_reasons.last_divergence(told)
        record, skipped = stop_reasons.newest_healthy(self.folder, records, diverged)
        refuse_exchanged(self.folder, [one.record for one in skipped])
        if fetched := self._fetched_back(skipped):
            events.append(fetched)
            record, skipped = stop_reasons.newest_healthy(self.folder, records, diverged)
        self._diverged = [one.record for one in skipped if one.reason == stop_reasons.NOT_FINITE]
        self._outbox = self._outbox if record in found else None
        self._newest = record
        events += [
            EventRecord(
                "checkpoint passed over",
                f"the checkpoint of step {one.record.step} is not used: {one.reason}",
            )
            for one in skipped
        ]
        run = self.ledger.reading.run(self.spec.name)
        if record is None and run.parent is not None:
            raise UserError(f"{run.name} has no whole checkpoint left: {stop_reasons.begun_anew(run, self.folder)}")
        events += stop_reasons.divergence_warnings(diverged, self.spec)
        if record is None and diverged is not None:
            raise UserError(
                f"{run.name} has no checkpoint left from before its policy diverged: begin a new run with a lower "
                "`learner.lr`"
            )
        if record is None:
            return None, [*events, EventRecord("resumed", "no checkpoint yet: the run begins at step 0")]
        forked = f"forked from {run.parent} after stage {run.parent_stage}"
        is_first = record.kind == "boundary" and record.num_boundaries == (run.parent_stage or 0) + 1
        if run.parent is not None and is_first and forked not in {event.text for event in told}:
            events.append(EventRecord(DECISION, forked))
        else:
            text = f"resumed from the checkpoint of step {record.step}, with the spec the run began with"
            events.append(EventRecord("resumed", text))
        return checkpoints.open_checkpoint(self.folder / record.folder, EXPECTED, MAY_BE), events

    def _fetched_back(self, skipped: Sequence[Skipped]) -> EventRecord | None:
        """Put the newest damaged checkpoint back from its copy, if one is whole: going on without would delete that."""
        url = self.spec.checkpoint.copy_to
        damaged = [one for one in skipped if not one.is_whole]
        kept = self.ledger.reading.spec(self.spec.name).get("checkpoint") or {}
        if url is None or not damaged or kept.get("copy_to") is None:  # nothing was copied before
            return None
        self.watcher.opening("fetching a checkpoint that is not whole here from its copy")
        try:
            fetched = next((one for one in damaged if fetch_back(url, self.folder, one.record)), None)
        except HomeError as error:
            raise UserError(
                f"the checkpoint of step {damaged[0].record.step} is not whole ({damaged[0].reason}), and whether its "
                f"copy is cannot be said: {error}. Make that place reachable and resume again; "
                "`--set checkpoint.copy_to=null` goes on from an older one, and leaves the copies alone"
            ) from error
        if fetched is None:
            return None
        text = f"the checkpoint of step {fetched.record.step} is back from its copy: {fetched.reason}"
        return EventRecord("copies", text)

    def _find_outbox(self) -> tuple[list[CheckpointRecord], list[EventRecord]]:
        """Find the checkpoint that the ledger does not know, if its records fit what the ledger holds."""
        self._outbox = kept = Outbox.read(self.folder)
        if kept is None:
            return [], []
        try:
            if not kept.follows(self.ledger.reading.run(self.spec.name)):
                raise CheckpointError("the ledger holds another course of the run by now")
            record = kept.checkpoint(self.folder)
        except CheckpointError as wrong:
            text = f"the checkpoint of step {kept.step}, made while the ledger was away, is not used: {wrong}"
            return [], [EventRecord("checkpoint passed over", text)]
        return [record], [EventRecord("ledger away", f"the run had stopped: {kept.why}")]


def _why_anew(part: str) -> str:
    if part == THINNED:
        return f"begins anew: {part}, so this is not bit for bit what went on from there"
    if part.endswith(OTHER_TASKS):  # a resumed run may find other data too
        return f"begins anew: {part}"
    return f"begins anew after the fork: {part}"


def _refresh_index(home: Home, watcher: Callback) -> None:
    """Write the home's page again where there is one; it shows what is durable, so nothing about it costs a run."""
    path = home.path / overview.INDEX_FILE
    if not path.is_file():
        return
    try:
        overview.write(inventory(home.path), home.path, path)
    except Exception as failed:
        watcher.event([f"{path} was not written ({failed}); `evergreen ls --html` tries again"])
