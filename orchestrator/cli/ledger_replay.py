"""A run read from its ledger and told to a watcher as the trainer would tell it: what was, or only what is new."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.callbacks import Callback
from orchestrator.cli.run_state import MEASURED, METRICS, WINDOW, Course, Outline
from orchestrator.progress import Progress
from orchestrator.runs.catalog import opened
from store.ledger import Reading
from store.ledger import query_rows as a
from store.records import NEWS, BoundaryRecord, MetricRecord, StepRecord

ENDINGS = ("stopped", "failed")  # and these tell how the run ended


@dataclass(frozen=True)
class Heard:
    """Something that happened, to be told to a watcher."""

    created_at: str
    step: int  # of the run, when it happened
    tell: Callable[[Callback], None]


def recalled(home: Path, name: str) -> Course:
    """Read a run's course up to now."""
    with opened(home, name) as (place, ledger):
        course = Course()
        course.begin(name, str(place.run_folder(name)))
        LedgerReplay(ledger.reading, name, course.snapshot().outline).catch_up(course)
    return course


class LedgerReplay:
    """Reads what is new. Nothing is told twice; a run that went back to a checkpoint is told again from there.

    Of many new steps the last few are told, and before them those with an evaluation.
    """

    def __init__(self, reading: Reading, name: str, outline: Outline) -> None:
        self._reading, self._name, self._outline = reading, name, outline
        # how far; may be ahead of the pulse, when a run writes meanwhile
        self._told = a.Pulse("", 0, 0, 0, 0)
        self.pulse = self._told  # of the last look
        self.written_at = ""  # when the newest thing was written, UTC

    def news(self) -> list[Heard]:
        """What was written since the last call, in order."""
        self.pulse = self._reading.pulse(self._name)
        if self.pulse == self._told:
            return []
        heard = sorted(self._news(), key=lambda one: one.created_at)
        self.written_at = max((self.written_at, *(one.created_at for one in heard)))
        return heard

    def catch_up(self, course: Course) -> None:
        """Tell a course what happened up to now."""
        for heard in self.news():
            course.at_step(heard.step)
            heard.tell(course)

    def reason(self) -> str | None:
        """Why the run ended, when it was stopped or failed."""
        texts = [event.text for event in self._reading.events(self._name) if event.kind in ENDINGS]
        return texts[-1] if texts else None

    def _news(self) -> list[Heard]:
        """Read on from where a run was told to, or from where it stands if that is less.

        First steps, then boundaries, stages and events: the order of what was written in one millisecond.
        """
        name, read, now = self._name, self._reading, self.pulse
        known = min(self._told.num_steps, now.num_steps)
        after = max(now.num_steps - WINDOW, known)
        num_stages = min(self._told.num_stages, now.num_stages)
        num_boundaries = min(self._told.num_boundaries, now.num_boundaries)
        num_events = min(self._told.num_events, now.num_events)

        stages = read.stages(name)
        evaluated = [*read.evaluations(name, known), *read.wholes(name, ["seconds_evaluate"], known)]
        looks = {row.step for row in evaluated}
        steps = [row for row in read.steps(name, known if looks else after) if row.step > after or row.step in looks]
        boundaries = read.boundaries(name)[num_boundaries:]
        events = read.events(name, num_events)
        self._told = a.Pulse(
            status=now.status,
            num_steps=steps[-1].step if steps else now.num_steps,
            num_stages=len(stages),
            num_boundaries=num_boundaries + len(boundaries),
            num_events=num_events + len(events),
        )
        heard = [*self._steps(steps, stages, after, evaluated)] if steps else []
        cells = [cell for of in read.matrices(name, MEASURED).values() for cell in of] if boundaries else []
        for row in boundaries:
            own = [cell for cell in cells if cell.after_stage == row.after_stage]
            record = BoundaryRecord(row.after_stage, row.step, row.seconds, row.settings, own)
            told = _tell("boundary", self._progress(None, row.step, 0), record)
            heard.append(Heard(row.created_at, row.step, told))
        for stage in stages[num_stages:]:
            at = self._progress(stage, stage.start_step, 0)
            heard.append(Heard(stage.started_at, stage.start_step, _tell("stage", at)))
        for event in events:
            is_news = event.data.get("is_news", True)  # a fixed order's picks are none
            if event.kind not in ENDINGS and is_news:
                told = _tell("decision" if event.kind in NEWS else "event", [event.text])
                heard.append(Heard(event.created_at, event.step, told))
        return heard

    def _progress(self, stage: a.StageRow | None, step: int, stage_step: int) -> Progress:
        outline = self._outline
        at = Progress(outline.num_stages, outline.steps_per_stage, step=step, stage_step=stage_step)
        if stage is not None:
            at.stage, at.environment = stage.stage, stage.environment
        return at

    def _steps(
        self, steps: Sequence[a.StepRow], stages: Sequence[a.StageRow], after: int, evaluated: Sequence[a.MetricRow]
    ) -> Iterator[Heard]:
        metrics: dict[int, list[MetricRecord]] = defaultdict(list)
        arms: dict[int, list[a.ArmRow]] = defaultdict(list)
        for one in (*self._reading.wholes(self._name, METRICS, after), *evaluated):
            metrics[one.step].append(MetricRecord(one.metric, one.value, one.environment, one.category))
        for arm in self._reading.arms(self._name, after=after):
            arms[arm.step].append(arm)
        by_index = {stage.stage: stage for stage in stages}
        for row in steps:
            step = StepRecord(
                step=row.step,
                stage=row.stage,
                stage_step=row.stage_step,
                seconds=row.seconds,
                num_tokens=row.num_tokens,
                num_samples=row.num_samples,
                metrics=metrics[row.step],
                arms=arms[row.step],
            )
            at = self._progress(by_index.get(row.stage), row.step, row.stage_step)
            yield Heard(row.created_at, row.step, _tell("step", at, step))


def _tell(what: str, *facts: object) -> Callable[[Callback], None]:
    """Pass facts to a watcher by the method that hears them."""
    return lambda watcher: getattr(watcher, what)(*facts)
