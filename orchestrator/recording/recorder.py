"""The record of a run: what happens goes to the ledger, where the run stands into checkpoints."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from environments import Task
from environments.contracts import question_and_truth
from environments.slices.environment import unsliced
from orchestrator.callbacks import Callback
from orchestrator.choosing.choice import by_pick, mean_of
from orchestrator.choosing.stage_scheduler import StageChoice, StageReward
from orchestrator.components import Components
from orchestrator.interventions import Decision, Done, Measured
from orchestrator.measurements.contracts import Findings, HeldOut
from orchestrator.measurements.evaluation import sample_record
from orchestrator.played_group import PlayedGroup
from orchestrator.progress import Progress
from orchestrator.recording import events, outbox, step_metrics
from orchestrator.recording.checkpoint import name_of
from orchestrator.recording.checkpoint_writer import CheckpointWriter
from orchestrator.recording.saved_state import read_by_forks
from orchestrator.recording.step_metrics import StepResult
from orchestrator.stopwatch import Stopwatch
from policies.samplers.weight_check import require_healthy
from store import checkpoints, report
from store.checkpoint_copies import CheckpointCopier
from store.home import Home
from store.ledger import Ledger, RunHandle
from store.ledger.query_rows import TaskSetRow
from store.ledger.rows import MAX_ARMS
from store.records import (
    DECISION,
    INTERVENTION,
    LASTING,
    NEWS,
    QUARANTINE,
    BoundaryRecord,
    CheckpointKind,
    CheckpointRecord,
    EventRecord,
    GroupRecord,
    HoldoutRecord,
    InterventionRecord,
    PickRecord,
    StageRecord,
    StepRecord,
    Versions,
)

SAMPLES_KEPT = 8  # completions kept of every step
FIRST_REPORT = 10.0  # seconds: a run that is over sooner writes its last page only
REPORT_SHARE = 0.01  # of a run's time, at most, for the pages on the way: they grow with the number of stages


class RunRecorder:
    """The ledger rows and checkpoints of one run."""

    def __init__(
        self,
        ledger: Ledger,
        run: RunHandle,
        folder: Path,
        watcher: Callback,
        saved: tuple[int, int] | None = None,
        copier: CheckpointCopier | None = None,
    ) -> None:
        self.ledger, self.run, self.folder, self.watcher = ledger, run, folder, watcher
        self._saved = saved  # (steps, boundaries) of the newest checkpoint
        self._untold: CheckpointRecord | None = None  # it, while the ledger does not know it
        self._saved_at = time.monotonic()
        self._report_due_at = self._saved_at + FIRST_REPORT  # by the same clock
        self._report_is_behind = saved is not None  # a boundary that the page does not tell yet, or may not
        self._held_out: list[HoldoutRecord] = []  # what boundaries measure from here on
        self._outbox: list[outbox.Record] = []  # what is being recorded
        self._writer, self._copier = CheckpointWriter(folder), copier
        self._copy()

    def record_events(self, at: Progress, happened: Sequence[EventRecord]) -> None:
        """Record things that happened outside a step."""
        for event in happened:
            self.ledger.record_event(self.run, at.step, event)
        self._tell(happened)

    def record_holdouts(self, parts: Components, before: Iterable[TaskSetRow]) -> Sequence[HoldoutRecord]:
        """Tell which tasks every category is evaluated on; `before`: see `all_holdouts`. Returns what was told."""
        self._held_out = all_holdouts(parts, before)
        self.ledger.record_holdouts(self.run, self._held_out)
        return self._held_out

    def restore_stage(self, parts: Components, at: Progress) -> None:
        """Enter the start of the stage that goes on, if a lost ledger took it along: what comes is of that stage."""
        begun = {stage.stage for stage in self.ledger.reading.stages(self.run.name)}
        if 0 < at.stage == at.num_boundaries and at.stage not in begun:
            self.ledger.start_stage(self.run, _stage(parts, at, ()))

    def record_stage(self, parts: Components, at: Progress, scheduled: StageChoice) -> None:
        """A stage begins, and why there."""
        drawn = {
            "stage": at.stage,
            "probabilities": dict(scheduled.probabilities),
            "is_news": scheduled.is_news,
        }
        said = [EventRecord(DECISION, f"stage {at.stage}: {scheduled.why}", drawn)] if scheduled.pick else []
        if why := parts.choice.why_replay(at.environment, at.visited):
            said.append(EventRecord(DECISION, f"stage {at.stage}: {why}"))
        self.ledger.start_stage(self.run, _stage(parts, at, said))
        self.watcher.stage(at)
        if scheduled.is_news:
            self.watcher.decision([event.text for event in said])

    def record_step(self, parts: Components, at: Progress, done: StepResult, watch: Stopwatch) -> None:
        """Record a step: one transaction."""
        batch, groups, report = done.batch, done.batch.groups, done.report
        numbers = [
            *step_metrics.of_batch(groups, parts.guards.reads_repeated),
            *step_metrics.of_passed_over(batch),
            *step_metrics.of_plans(batch),
            *step_metrics.of_versions(groups, done.version),
            *step_metrics.of_controllers(done.controlled, done.update),
            *done.update,
            *step_metrics.of_time(watch, groups, report),
        ]
        spread = range(0, len(groups), max(1, len(groups) // SAMPLES_KEPT))
        ends_dead = parts.stopping.ends_dead_stages
        record = StepRecord(
            step=at.step,
            stage=at.stage,
            stage_step=at.stage_step,
            seconds=watch.total,
            num_tokens=sum(group.num_tokens for group in groups),
            num_samples=sum(len(group.samples) for group in groups),
            picks=[pick for own in by_pick(groups) for pick in _picks(own)],
            groups=[_group(group) for group in groups],
            samples=[sample_record(i, 0, groups[i]) for i in spread][:SAMPLES_KEPT],
            metrics=[*numbers, *done.found.metrics],
            arms=done.arms.kept(MAX_ARMS, {group.slot.bandit for group in groups}),
            events=[
                *events.of_step(groups, report, done.left_out),
                *(EventRecord(QUARANTINE, text) for text in done.set_aside),
                *parts.guards.judge(at, numbers, done.left_out),
                *done.found.events,
                *(EventRecord("sampler", text) for text in parts.sampler.take_news()),
                *self._copy_events(),
                *events.of_passed_over(at.too_long, batch.passed_over),
                *(EventRecord("scorer", text) for text in parts.player.scorer.take_news()),
                *events.raise_alarms(
                    at.alarms,
                    numbers,
                    parts.spec.policy.dtype,
                    at.silence,
                    environment=at.environment,
                    ends_dead_stages=ends_dead,
                    can_end=bool(parts.policy.stop_ids),
                ),
                *events.end_of_stage(at),
            ],
        )
        self._outbox = [record]
        self.ledger.record_step(self.run, record)
        self._outbox = []
        self._tell_of_waits(at)
        self.watcher.step(at, record)
        self._tell(record.events)

    def record_boundary(self, at: Progress, found: Findings, earned: StageReward, watch: Stopwatch) -> None:
        """A boundary is done: one transaction."""
        decisions = [EventRecord(DECISION, f"stage {at.stage}: {earned.why}")] if earned.why else []
        read, name = self.ledger.reading, self.run.name
        of = read.matrices(name, ("entropy_token", "pass_1"), by_category=False) if at.stage else {}
        before = [cell for cells in of.values() for cell in cells]
        before = events.on_same_tasks(before, read.task_sets(name) if before else (), self._held_out)
        record = replace(
            _boundary(at, found, watch),
            events=[*found.events, *events.of_entropy(before, found.cells), *decisions],
            stop_reason=(at.stop_reason or "budget") if at.stage else None,
            signal=earned.reward,
        )
        self._outbox = [record]
        self.ledger.record_boundary(self.run, record)
        self._outbox = []
        self._tell_of_waits(at)
        self.watcher.boundary(at, record)
        self._tell(record.events)

    def measured(self, at: Progress, metrics: Collection[str]) -> Measured:
        """Read back what the boundary just done measured."""
        return Measured.after(self.ledger.reading, self.run.name, at.stage, metrics)

    def record_intervention(
        self,
        parts: Components,
        at: Progress,
        decided: Decision,
        done: Sequence[Done],
        found: Findings,
        watch: Stopwatch,
    ) -> None:
        """What was done to the policy between two stages: one transaction, then the checkpoint of what it is now.

        Killed in between, the run goes on from the boundary's checkpoint and does the same again.
        """
        said = [
            EventRecord(INTERVENTION, f"after stage {at.stage}: {one.planned.kind} ({one.why}): {one.text}")
            for one in done
        ]
        record = replace(
            _boundary(at, found, watch), queries=decided.looks, events=[*decided.events, *said, *found.events]
        )
        if not record.events:  # nothing was asked, and nothing was done
            return
        before, after = (f"{checkpoints.FOLDER}/{name_of(at, kind)}" for kind in LASTING)
        changed = [
            InterventionRecord(
                at.stage, one.planned.number, at.step, one.planned.kind, one.planned.params, one.why, before, after
            )
            for one in done
            if one.is_any
        ]
        self.ledger.record_intervention(self.run, changed, record)
        self._tell_of_waits(at)
        self._tell(record.events)
        if changed:
            self.save("intervention", parts, at)

    def record_joined(self, parts: Components, at: Progress, found: Findings, watch: Stopwatch) -> None:
        """Environments joined at the last boundary: first the checkpoint that knows them, then their cells.

        Killed in between, the run measures them again and finds the same.
        """
        self._saved = None
        # about to be replaced: no row may name another's content, and no copy hold it
        for older in self.ledger.checkpoints(self.run):
            if (older.step, older.num_boundaries) == (at.step, at.num_boundaries):
                self.ledger.forget_checkpoint(self.run, older)
                if self._copier is not None:
                    self._copier.drop(Path(older.folder).name)
        self.save("boundary", parts, at)
        self.settle(parts)
        record = _boundary(at, found, watch)
        self.ledger.record_joined(self.run, record)
        self.watcher.boundary(at, record)
        self._report(at)

    def save_if_due(self, parts: Components, at: Progress) -> None:
        """Make a periodic checkpoint when the spec's steps or minutes have passed."""
        self._enter(self._writer.take(wait=at.is_at_boundary), parts)  # which may read the weights of earlier ones
        section = parts.spec.checkpoint
        by_steps = section.every_steps and at.stage_step % section.every_steps == 0
        by_time = section.every_minutes and time.monotonic() - self._saved_at >= 60 * section.every_minutes
        if (by_steps or by_time) and not at.is_at_boundary:  # the boundary makes its own
            self.save("periodic", parts, at)

    def save(self, kind: CheckpointKind, parts: Components, at: Progress) -> None:
        """Make a checkpoint of this position durable, unless there is one; then forget old periodic ones.

        One after which the run goes on may still be written when this returns. Raises NonFiniteLogits for a policy that
        has diverged: such a checkpoint would be worth nothing.
        """
        self.settle(parts)
        if self._saved != (at.step, at.num_boundaries) or kind == "intervention":
            require_healthy(parts.policy)
            self._saved_at = time.monotonic()
            is_read_next = at.is_finished or bool(parts.interventions.planned)
            goes_on = kind == "periodic" or (kind == "boundary" and not is_read_next)
            if goes_on and parts.spec.checkpoint.background:
                self._writer.begin(kind, parts, at)
            else:
                self._enter(self._writer.write(kind, parts, at), parts)
        if kind == "boundary":
            self._report(at, is_last=at.is_finished)
        elif kind == "stop":
            self.complete_report(at)

    def finish_copies(self, at: Progress) -> None:
        """Wait for what is copied elsewhere, and tell what could not be."""
        if self._copier is not None:
            self._copier.finish(self.watcher.phase)
            self.record_events(at, self._copy_events())

    def __enter__(self) -> RunRecorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Leave nothing under way in the run's folder; an interrupt does not wait for the checkpoint of that moment."""
        if kind is None or issubclass(kind, Exception):
            checkpoints.finish_background(self.folder)
        if self._copier is not None:
            self._copier.close()

    def settle(self, parts: Components) -> None:
        """Wait for the checkpoint that is written beside the run, if there is one."""
        self._enter(self._writer.take(wait=True), parts)

    def _enter(self, record: CheckpointRecord | None, parts: Components) -> None:
        """Tell the ledger of a checkpoint that is durable, and forget old periodic ones."""
        if record is None:
            return
        self._saved, self._untold = (record.step, record.num_boundaries), record
        self.ledger.record_checkpoint(self.run, record)
        self._untold = None
        records, section = self.ledger.checkpoints(self.run), parts.spec.checkpoint
        num_lasting = checkpoints.NUM_WHOLE if section.boundaries == "none" else None
        needed = checkpoints.read_by_interventions(records) if parts.spec.interventions else set()
        if num_lasting is not None:
            needed |= read_by_forks(Home(self.folder.parent, create=False), self.folder.name)
        superfluous = checkpoints.superfluous(records, section.keep, num_lasting, needed)
        checkpoints.delete(self.folder, superfluous, self._writer.remove)
        for old in superfluous:
            self.ledger.forget_checkpoint(self.run, old)
        for older in checkpoints.thinnable(records):
            if section.thins(older.num_bytes):
                self._writer.thin(self.folder / older.folder)
        self._copy()

    def _copy(self) -> None:
        """Have the checkpoints that are here copied elsewhere, where the spec says so."""
        if self._copier is None:
            return
        here = [Path(record.folder).name for record in self.ledger.checkpoints(self.run)]
        folder = self.folder / checkpoints.FOLDER
        self._copier.want(here, [name for name in here if checkpoints.is_thin(folder / name)])

    def _copy_events(self) -> list[EventRecord]:
        return [] if self._copier is None else [EventRecord("copies", text) for text in self._copier.take_news()]

    def complete_report(self, at: Progress) -> None:
        """Write the page of a run that ends here, if there is a boundary that it does not tell yet."""
        if self._report_is_behind:
            self._report(at, is_last=True)

    def keep_outbox(self, parts: Components, at: Progress, why: str) -> None:
        """Make this position durable without the ledger, which stays away; `resume` tells it what it lacks.

        A checkpoint of it that is there stays: a stage that was begun since is begun again.
        """
        with suppress(Exception):  # it is found beside the ledger, and what kept it from being is met again
            if (begun := self._writer.take(wait=True)) is not None:
                self._saved, self._untold = (begun.step, begun.num_boundaries), begun
        parts.guards.act(at)  # the records say that it was done
        is_saved = self._saved == (at.step, at.num_boundaries)
        made = self._untold if is_saved else None
        if is_saved and made is None and not self._outbox:
            return
        kind: CheckpointKind = "boundary" if at.num_boundaries > at.stage else "stop"
        kind, name = (kind, name_of(at)) if made is None else (made.kind, Path(made.folder).name)
        outbox.Outbox(why, at.step, at.num_boundaries, kind, name, self._outbox).write(self.folder)
        if made is None:
            self._writer.write(kind, parts, at)

    def _tell_of_waits(self, at: Progress) -> None:
        """Record what the ledger was waited for; callbacks heard of it while it was away."""
        for text in self.ledger.patience.take_news():
            self.ledger.record_event(self.run, at.step, EventRecord("ledger away", text))

    def _report(self, at: Progress, is_last: bool = False) -> None:
        """Write the run as a page for people: its last one, and others whenever that costs little of its time.

        It shows only what is durable already, so neither a full disk nor a defect of the page may cost the run.
        """
        begun = time.monotonic()
        self._report_is_behind = begun < self._report_due_at and not is_last
        if self._report_is_behind:
            return
        try:
            report.write(self.ledger, self.folder, self.run.name)
        except Exception as failed:
            text = f"the report was not written ({failed}); `evergreen report {self.run.name}` tries again"
            self.record_events(at, [EventRecord("report", text)])
        ended = time.monotonic()
        self._report_due_at = ended + (ended - begun) / REPORT_SHARE

    def _tell(self, happened: Sequence[EventRecord]) -> None:
        """Pass on what happened: a decision is news, an incident is a warning."""
        self.watcher.decision([event.text for event in happened if event.kind in NEWS])
        self.watcher.event([event.text for event in happened if event.kind not in NEWS])


def all_holdouts(parts: Components, before: Iterable[TaskSetRow]) -> list[HoldoutRecord]:
    """Say which tasks a run is measured on at its boundaries, in every pool.

    `before`: those that it was measured on so far. Earlier versions knew tasks by their prompts alone: what one of them
    recorded stays what it is called.
    """
    known = {(one.environment, one.category, one.purpose, one.sha256) for one in before}
    found = []
    for pool, held_out in parts.held_out.items():
        purposes = {name: "own" if parts.environments[name].closed else pool for name in held_out}
        by_prompt = holdouts(held_out, purposes, lambda task: task.key)
        for old, new in zip(by_prompt, holdouts(held_out, purposes), strict=True):
            found.append(old if (old.environment, old.category, old.purpose, old.sha256) in known else new)
    return found


def holdouts(
    held_out: HeldOut, purposes: Mapping[str, str], identify: Callable[[Task], str] = question_and_truth
) -> list[HoldoutRecord]:
    """Say by hash which tasks every category is measured on, and what for."""
    return [
        HoldoutRecord(
            name,
            category,
            purposes[name],
            hashlib.sha256("".join(identify(unsliced(task)) for task in tasks).encode()).hexdigest(),
            len(tasks),
        )
        for name, by_category in held_out.items()
        for category, tasks in by_category.items()
    ]


def _stage(parts: Components, at: Progress, said: Sequence[EventRecord]) -> StageRecord:
    stage, pick = parts.spec.curriculum.stage, at.pick
    chosen = PickRecord(0, "scheduler", "main", pick.arm, pick.arm, pick.probability) if pick else None
    start = at.step - at.stage_step
    return StageRecord(at.stage, at.environment, start, stage.steps, stage.replay_share, chosen, said)


def _boundary(at: Progress, found: Findings, watch: Stopwatch) -> BoundaryRecord:
    return BoundaryRecord(
        after_stage=at.stage,
        step=at.step,
        seconds=watch.total,
        eval_config=found.config,
        cells=found.cells,
        items=found.items,
        samples=found.samples,
        events=found.events,
        network=found.network,
        probes=found.probes,
        queries=found.queries,
        measurements=found.measurements,
    )


def _picks(groups: Sequence[PlayedGroup]) -> list[PickRecord]:
    """Record the bandit's decision about a slot, and before it that of the rule of replay, if one drew there."""
    slot, signal = groups[0].slot, mean_of(group.signal for group in groups)
    name, picked = (
        slot.environment,
        PickRecord(slot.index, slot.level, slot.role, slot.environment, slot.pick.arm, slot.pick.probability, signal),
    )
    if slot.drawn_with is None:
        return [picked]
    return [PickRecord(slot.index, "replay", slot.role, name, name, slot.drawn_with, signal), picked]


def _group(group: PlayedGroup) -> GroupRecord:
    """Record a group; a sample has one version where one wrote it all, as in every engine that waits for updates."""
    slot, scores = group.slot, [sample.score for sample in group.samples]
    versions: list[Versions] = [
        spans[0].version
        if len(spans) == 1 or len({span.version for span in spans}) == 1
        else [(span.version, span.start, span.end) for span in spans]
        for spans in (sample.spans for sample in group.samples)
    ]
    return GroupRecord(
        slot=slot.index,
        environment=slot.environment,
        category=slot.category,
        task_key=group.task.key,
        task_index=group.task.index,
        role=slot.role,
        values=[score.value for score in scores],
        correct=[score.correct for score in scores],
        reasons=[score.reason for score in scores],
        versions=versions,
        num_tokens=[sample.num_tokens for sample in group.samples],
        finishes=[sample.finish for sample in group.samples],
    )
