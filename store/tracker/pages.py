"""From ledger rows to values under MLflow's names, in pages: so much history, sent before the cursor moves on.

One step axis for all: a value's step is the run's. Its time is that of the ledger's row, so that sending a page
twice sends the same, and MLflow keeps one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from store import outcomes
from store.ledger import Reading
from store.ledger.query_rows import ArmRow, BoundaryRow, MetricRow, RunRow, StagePick, StageRow, StepRow
from store.records import EVERYTHING
from store.tracker.cursor import Cursor, position
from store.tracker.names import MATRICES, of_environment
from store.tracker.values import MlflowValue, of_bandits, of_pick, of_step, values

Row = TypeVar("Row", MetricRow, ArmRow)

PAGE = 50  # steps
EVERY = 10  # of so many steps the curriculum gets one; its stages get them all


@dataclass(frozen=True)
class Page:
    """A part of a run's history, ready to be sent."""

    stages: Mapping[int, Sequence[MlflowValue]]  # for the stages' own runs
    curriculum: Sequence[MlflowValue]
    boundaries: Sequence[BoundaryRow]
    end: Cursor  # the cursor once all of it has arrived


@dataclass
class HistoryPages:
    """What a run's pages are cut from: its small tables whole, its large ones step by step."""

    read: Reading
    run: RunRow
    steps: Sequence[StepRow] = field(init=False)
    boundaries: Sequence[BoundaryRow] = field(init=False)
    stages: Mapping[int, StageRow] = field(init=False)
    picks: Mapping[int, StagePick] = field(init=False)
    chances: Mapping[int, Mapping[str, float]] = field(init=False)  # by stage, what its pick was drawn from
    matrices: Mapping[str, Mapping[tuple[int, str], float | None]] = field(init=False)
    carried: outcomes.Matrices = field(init=False)  # what the numbers of carry-over are made of

    def __post_init__(self) -> None:
        read, name = self.read, self.run.name
        self.steps, self.boundaries = read.steps(name), read.boundaries(name)
        self.stages = {stage.stage: stage for stage in read.stages(name)}
        self.picks = {pick.stage: pick for pick in read.stage_picks(name)}
        drawn = [event.data for event in read.events(name) if "probabilities" in event.data]
        self.chances = {data["stage"]: data["probabilities"] for data in drawn}
        cells = {metric: read.matrix(name, metric) for metric in MATRICES}
        self.matrices = {
            metric: {
                (cell.after_stage, cell.environment): cell.value
                for cell in of
                if cell.environment is not None and cell.category is None
            }
            for metric, of in cells.items()
        }
        self.carried = outcomes.matrices(cells["pass_1"], cells["entropy_token"], list(self.stages.values()))

    def has(self, sent: Cursor) -> bool:
        """Whether this is still the history that was sent up to there; a resumed run may have gone back.

        Rows that a lost ledger took along are no other history: what was sent of them is all that is left.
        """
        now = position(sent.step, sent.num_boundaries, self.steps, self.boundaries)
        lost = self.read.gaps(self.run.name)
        has_step = now.step_at == sent.step_at or lost.has_step(sent.step)
        return has_step and (
            now.boundary_at == sent.boundary_at or lost.has_boundary(sent.num_boundaries - 1)
        )

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
        said = self._of_steps(wanted)
        stages: dict[int, list[MlflowValue]] = defaultdict(list)
        curriculum: list[MlflowValue] = []
        for step in steps:
            stages[step.stage] += said[step.step]
            if step.stage_step == 1:
                curriculum += self._of_pick(step)
        for number in sorted(wanted):
            if number % EVERY == 0 or number in closing:
                curriculum += said.get(number, [])
        for boundary in boundaries:
            curriculum += self._of_boundary(boundary)
        return Page(stages, curriculum, boundaries, end)

    def _of_steps(self, wanted: set[int]) -> Mapping[int, Sequence[MlflowValue]]:
        """Collect what every wanted step says."""
        if not wanted:
            return {}
        span = (min(wanted) - 1, max(wanted))
        numbers = _by_step(self.read.numbers(self.run.name, *span))
        arms = _by_step(self.read.arms(self.run.name, None, *span))
        is_flat = self.run.scheduler is None
        found: dict[int, Sequence[MlflowValue]] = {}
        num_tokens, seconds = 0, 0.0
        for step in self.steps:
            num_tokens, seconds = num_tokens + step.num_tokens, seconds + step.seconds
            if step.step in wanted:
                before = sum(b.seconds for b in self.boundaries if b.step < step.step)
                progress = {
                    "progress/stage_step": step.stage_step,
                    "progress/stage_idx": step.stage,
                    "progress/tokens": num_tokens,
                    "progress/wall_h": (seconds + before) / 3600,
                }
                chances = dict(of_bandits(arms[step.step], is_flat))
                said = {**dict(of_step(numbers[step.step])), **chances, **progress}
                found[step.step] = values(said, step.step, step.created_at)
        return found

    def _of_pick(self, first: StepRow) -> Sequence[MlflowValue]:
        """Tell what the scheduler knew when it picked the stage that this step begins; nothing in flat mode."""
        pick, stage = self.picks.get(first.stage), self.stages[first.stage]
        if pick is None:
            return []
        arms = self.read.arms(self.run.name, EVERYTHING, first.step - 1, first.step)
        chances = self.chances.get(first.stage, {})
        return values(dict(of_pick(pick, chances, arms)), stage.start_step, stage.started_at)

    def _of_boundary(self, boundary: BoundaryRow) -> Sequence[MlflowValue]:
        """Tell the matrices' row, what it says about the stage before, and what that stage earned."""
        after = boundary.after_stage
        numbers = {
            of_environment(f"R_{metric}", environment): value
            for metric, matrix in self.matrices.items()
            for (stage, environment), value in matrix.items()
            if stage == after
        }
        so_far = outcomes.of_run(self.carried.up_to(after))
        numbers |= {one.mlflow: so_far[one.name] for one in outcomes.OUTCOMES}
        numbers |= outcomes.of_switch(self.carried, after)
        if after in self.picks:
            numbers["bandit/reward"] = self.picks[after].signal
        return values(numbers, boundary.step, boundary.created_at)


def _by_step(rows: Iterable[Row]) -> Mapping[int, list[Row]]:
    by_step: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        by_step[row.step].append(row)
    return by_step
