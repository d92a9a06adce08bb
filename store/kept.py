"""Whether training left the policy able to learn: the last environment that was new to a run, beside its twin's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from store.carryover import difference
from store.ledger.queries import Reading
from store.ledger.query_rows import StageRow, TaskSetRow, by_key

RISE = 0.05  # of accuracy from before a stage to after it, above which something was learnt in it

Facts = dict[str, Any]


def kept_beside(read: Reading, name: str, twin: str) -> Facts | None:
    """What a run and its twin made of the last environment that was new to each, of the stages that both have finished.

    None until both have trained two environments, and in flat mode, and where the two were measured on other held-out
    tasks of it. Of a fork only its own stages count as the last.
    """
    done = {run: [stage for stage in read.stages(run) if stage.end_step is not None] for run in (name, twin)}
    until = min(len(stages) for stages in done.values())
    ours, theirs = (_last_new(read, run, stages[:until]) for run, stages in done.items())
    if ours is None or theirs is None:
        return None
    same, tasks = ours["environment"] == theirs["environment"], read.task_sets
    if same and tasks_at(tasks(name), ours["environment"], ours["stage"]) != tasks_at(
        tasks(twin), theirs["environment"], theirs["stage"]
    ):
        return None
    return {**ours, "twin": {"name": twin, **theirs}}


def tasks_at(sets: Iterable[TaskSetRow], environment: str, after_stage: int) -> frozenset[tuple[str, str]]:
    """The tasks, by category, on which an environment was measured after a stage."""
    return frozenset(
        (one.category, one.sha256)
        for one in sets
        if one.environment == environment and one.purpose in ("own", "anchor") and one.first <= after_stage <= one.last
    )


def on_other_tasks(
    ours: Iterable[TaskSetRow], theirs: Iterable[TaskSetRow], places: Iterable[tuple[str, int]]
) -> set[tuple[str, int]]:
    """Of environments after stages, those that two runs measured on different tasks; not where one of them did not."""
    found, sides = set(), [by_key(sets, lambda one: one.environment) for sets in (ours, theirs)]
    for name, after in places:
        tasks, others = (tasks_at(side.get(name, ()), name, after) for side in sides)
        if tasks and others and tasks != others:
            found.add((name, after))
    return found


def _last_new(read: Reading, name: str, stages: Sequence[StageRow]) -> Facts | None:
    """The last stage whose environment had none before, replay apart, and how much of it was learnt.

    Accuracy is held out, as the matrix has it after a stage: a mean over categories, so that it does not follow what a
    bandit picks, as accuracy in training does. The policy still learns if it is at least half of what it was on the
    first stage's environment after that stage, and rose by more than .05 since before its own; it no longer does if
    neither holds, and `learns` is None in between, and where other tasks were measured before its stage.
    """
    new: dict[str, StageRow] = {}
    for stage in stages:
        if stage.environment is not None:
            new.setdefault(stage.environment, stage)
    if len(new) < 2 or (last := list(new.values())[-1]).stage <= (read.run(name).parent_stage or 0):
        return None
    cells = read.matrix(name, "pass_1", by_category=False)
    accuracy: dict[tuple[str | None, int], float | None]
    accuracy = {(cell.environment, cell.after_stage): cell.value for cell in cells}
    if (end := accuracy.get((last.environment, last.stage))) is None:
        return None
    first = accuracy.get((stages[0].environment, stages[0].stage))
    sets = read.task_sets(name)
    before, after = (tasks_at(sets, str(last.environment), stage) for stage in (last.stage - 1, last.stage))
    rise = difference(accuracy.get((last.environment, last.stage - 1)), end) if before == after else None
    learns = None
    if first is not None and rise is not None and (end >= first / 2) == (rise > RISE):
        learns = rise > RISE
    return {
        "environment": last.environment,
        "stage": last.stage,
        "accuracy": end,
        "num_environments": len(new),
        "accuracy_first_stage": first,
        "rise": rise,
        "learns": learns,
    }
