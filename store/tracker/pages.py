"""From ledger rows to values under MLflow's names, in pages: so much history, sent before the cursor moves on.

The cursor says how far a record goes; `covered` how far it may go: what a checkpoint covers.

One step axis for all: a value's step is the run's. Its time is that of the ledger's row, so that sending a page
twice sends the same, and MLflow keeps one.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from store import carryover
from store.ledger import Reading
from store.ledger.queries.runs import matrices_of
from store.ledger.query_rows import BoundaryRow, RunRow, StepRow, by_key
from store.metrics import INTERIM
from store.probes import probes_of
from store.records import EVERYTHING
from store.tracker.names import (
    MlflowValue,
    of_bandits,
    of_matrix,
    of_measurements,
    of_network,
    of_pick,
    of_step,
    values,
)

PAGE = 50  # steps
EVERY = 10  # of so many steps the curriculum gets one; its stages get them all
OF_STEP, OF_BOUNDARY, OF_PICK = range(3)  # kinds of rows; at one step they come in this order


@dataclass(frozen=True)
class Cursor:
    """A place in a run's history; with the times of its last rows, since a resumed run may rewrite it."""

    step: int = 0
    num_boundaries: int = 0
    step_at: str | None = None  # when that step's row was written; None: no such row
    boundary_at: str | None = None  # the same of the last boundary

    def as_tag(self) -> str:
        """Write it for MLflow to keep."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_tag(cls, text: str | None) -> Cursor:
        """Read it back; without one nothing was sent."""
        return cls(**json.loads(text)) if text else cls()


def position(step: int, num_boundaries: int, steps: Sequence[StepRow], bounds: Sequence[BoundaryRow]) -> Cursor:
    """Make a cursor with the times that the ledger has for it."""
    step_at = next((row.created_at for row in steps if row.step == step), None)
    boundary_at = next((row.created_at for row in bounds if row.after_stage == num_boundaries - 1), None)
    return Cursor(step, num_boundaries, step_at, boundary_at)


def covered(read: Reading, name: str) -> Cursor:
    """Find how far a run's history is certain: to where it would resume, and of a finished one to its end.

    While a run goes on, a boundary is once the next stage has begun: until then environments may join there, or the
    policy be changed, and what that finds and costs is the boundary's, too.
    """
    run = read.run(name)
    if run.status == "finished":
        return Cursor(run.num_steps, run.num_boundaries)
    newest = next(iter(read.checkpoints(name)), None)
    if newest is None:
        return Cursor()
    begun = max((stage.stage for stage in read.stages(name)), default=0)
    is_open = run.status == "running" and newest.num_boundaries > begun
    return Cursor(newest.step, newest.num_boundaries - is_open)


@dataclass(frozen=True)
class Page:
    """A part of a run's history, ready to be sent."""

    stages: Mapping[int, Sequence[MlflowValue]]  # for the stages' own runs
    curriculum: Sequence[MlflowValue]
    boundaries: Sequence[BoundaryRow]
    end: Cursor  # the cursor once all of it has arrived
    rows: Mapping[tuple[int, int], Sequence[MlflowValue]]  # the same once, by step and kind, in order

    @property
    def num_values(self) -> int:
        """Count what is in its rows."""
        return sum(map(len, self.rows.values()))


class HistoryPages:
    """What a run's pages are cut from: its small tables whole, its large ones step by step."""

    def __init__(self, read: Reading, run: RunRow) -> None:
        self.read, self.run = read, run
        self.steps, self.boundaries = read.steps(run.name), read.boundaries(run.name)
        self.stages = {stage.stage: stage for stage in read.stages(run.name)}
        self.picks = {pick.stage: pick for pick in read.stage_picks(run.name)}
        drawn = [event.data for event in read.events(run.name) if "probabilities" in event.data]
        self.chances: Mapping[int, Mapping[str, float]]  # by stage, what its pick was drawn from
        self.chances = {data["stage"]: data["probabilities"] for data in drawn}
        self.cells = by_key(read.cells(run.name), lambda cell: cell.metric)
        self.network = by_key(read.network(run.name), lambda row: row.after_stage)
        self.probes = probes_of(read, run.name)
        self.costs = by_key(read.measurements(run.name), lambda row: row.after_stage)
        # seconds of evaluations inside stages, by step
        self.aside = {row.step: row.value or 0.0 for row in read.series(run.name, "seconds_evaluate")}
        accuracy, entropy = self.cells.get("pass_1", ()), self.cells.get("entropy_token", ())
        self.measured = matrices_of(accuracy, entropy, list(self.stages.values()), read.journeys(run.name))

    def has(self, sent: Cursor) -> bool:
        """Whether this is still the history that was sent up to there; a resumed run may have gone back.

        Rows that a lost ledger took along are no other history: what was sent of them is all that is left.
        """
        now = position(sent.step, sent.num_boundaries, self.steps, self.boundaries)
        if now == sent:
            return True
        lost = self.read.gaps(self.run.name)
        has_step = now.step_at == sent.step_at or lost.has_step(sent.step)
        has_boundary = now.boundary_at == sent.boundary_at or lost.has_boundary(sent.num_boundaries - 1)
        return has_step and has_boundary

    def further(self, one: Cursor, other: Cursor) -> Cursor:
        """Give the further of two positions, with the times that its rows have now."""
        step, num_boundaries = max(one.step, other.step), max(one.num_boundaries, other.num_boundaries)
        return position(step, num_boundaries, self.steps, self.boundaries)

    def pages(self, sent: Cursor, until: Cursor) -> Iterator[Page]:
        """Cut what comes after one position, up to another, into pages."""
        steps = [step for step in self.steps if sent.step < step.step <= until.step]
        for start in range(0, max(len(steps), 1), PAGE):
            page = steps[start : start + PAGE]
            is_last = start + PAGE >= len(steps)
            end = until.step if is_last else page[-1].step
            due = range(sent.num_boundaries, until.num_boundaries)
            boundaries = [b for b in self.boundaries if b.after_stage in due and b.step <= end]
            if page or boundaries:
                num_boundaries = boundaries[-1].after_stage + 1 if boundaries else sent.num_boundaries
                reached = position(max(end, sent.step), num_boundaries, self.steps, self.boundaries)
                yield self._page(page, boundaries, reached)
                sent = reached

    def _page(self, steps: Sequence[StepRow], boundaries: Sequence[BoundaryRow], end: Cursor) -> Page:
        """Turn rows into values. A stage's last step goes to the curriculum with the boundary that ends it."""
        closing = {b.step for b in boundaries if b.step % EVERY}
        wanted = {step.step for step in steps} | closing
        points = self._of_steps(wanted)
        stages: dict[int, list[MlflowValue]] = defaultdict(list)
        curriculum: list[MlflowValue] = []
        rows: dict[tuple[int, int], Sequence[MlflowValue]] = {}
        for step in steps:
            stages[step.stage] += points[step.step]
            rows[step.step, OF_STEP] = points[step.step]
            if step.stage_step == 1 and step.stage in self.picks:
                # what the scheduler knew when it picked the stage; nothing in flat mode
                arms = self.read.arms(self.run.name, EVERYTHING, step.step - 1, step.step)
                known = of_pick(self.picks[step.stage], self.chances.get(step.stage, {}), arms)
                stage = self.stages[step.stage]
                picked = values(dict(known), stage.start_step, stage.started_at)
                curriculum += picked
                rows[stage.start_step, OF_PICK] = picked
        for number in sorted(wanted):
            own = points.get(number, [])
            is_due = number % EVERY == 0 or number in closing
            curriculum += own if is_due else [one for one in own if one.name.startswith(INTERIM)]
        for boundary in boundaries:
            measured = self._of_boundary(boundary)
            curriculum += measured
            rows[boundary.step, OF_BOUNDARY] = measured
        in_order = {key: rows[key] for key in sorted(rows) if rows[key]}
        return Page(stages, curriculum, boundaries, end, in_order)

    def _of_steps(self, wanted: set[int]) -> Mapping[int, Sequence[MlflowValue]]:
        if not wanted:
            return {}
        span = (min(wanted) - 1, max(wanted))
        numbers = by_key(self.read.numbers(self.run.name, *span), lambda row: row.step)
        arms = by_key(self.read.arms(self.run.name, None, *span), lambda row: row.step)
        is_flat, lost = self.run.scheduler is None, self.read.gaps(self.run.name)
        first_lost = min((first for first, _ in lost.steps), default=math.inf)
        first_unmeasured = min((first for first, _ in lost.boundaries), default=math.inf)
        found: dict[int, Sequence[MlflowValue]] = {}
        num_tokens, seconds = 0, 0.0
        for step in self.steps:
            num_tokens, seconds = num_tokens + step.num_tokens, seconds + step.seconds + self.aside.get(step.step, 0.0)
            if step.step in wanted:
                before = sum(b.seconds for b in self.boundaries if b.step < step.step)
                progress: dict[str, float | None] = {
                    "progress/stage_step": step.stage_step,
                    "progress/stage_idx": step.stage,
                    # behind what a lost ledger took along they are not known
                    "progress/tokens": num_tokens if step.step < first_lost else None,
                    "progress/wall_h": (seconds + before) / 3600
                    if step.step < first_lost and step.stage <= first_unmeasured
                    else None,
                }
                named = {**dict(of_step(numbers[step.step])), **dict(of_bandits(arms[step.step], is_flat))}
                found[step.step] = values({**named, **progress}, step.step, step.created_at)
        return found

    def _of_boundary(self, boundary: BoundaryRow) -> Sequence[MlflowValue]:
        """The matrices' row, its numbers of the stage before, what that stage earned, and what else was measured."""
        after = boundary.after_stage
        numbers = {
            of_matrix(metric, cell.environment): cell.value
            for metric, cells in self.cells.items()
            for cell in cells
            if cell.after_stage == after and cell.environment is not None and cell.category is None
        }
        so_far = carryover.of_run(self.measured.up_to(after))
        numbers |= {one.mlflow: so_far[one.name] for one in carryover.OUTCOMES}
        numbers |= carryover.of_switch(self.measured, after)
        if after in self.picks:
            numbers["bandit/reward"] = self.picks[after].signal
        numbers |= dict(of_network(self.network.get(after, ())))
        numbers |= self.probes.numbers(after)
        numbers |= dict(of_measurements(self.costs.get(after, ())))
        return values(numbers, boundary.step, boundary.created_at)
