"""Check of closed environments: legal answers exist, follow from the generator alone, and give no answer away."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from environments.checker.context import CheckContext
from environments.checker.findings import shown, told
from environments.contracts import Task
from environments.scoring import ScoringJob

NUM_DRAWS = 8  # legal answers a task
GIVEN_AWAY = 0.6  # share by which a task's own legal answers are right more often than other tasks'


def check_closed(bench: CheckContext) -> None:
    """Draw legal answers for the tasks of a closed environment; others have none to draw."""
    if not bench.environment.closed:
        return
    for category, tasks in bench.tasks.items():
        if bench.sizes[category] is None and _goes_on(bench, category):
            bench.find("closed-endless", "it is closed but endless: nothing there can be memorised", category)
        answers = [_draw(bench, task) for task in tasks]
        if tasks and all(len(drawn) == NUM_DRAWS for drawn in answers):
            _check_secret(bench, category, tasks, answers)


def _goes_on(bench: CheckContext, category: str) -> bool:
    """Say whether new tasks keep coming: an endless row of a few tasks can be memorised like any other."""
    facts = bench.counts[category]
    return 2 * facts.num_distinct > facts.num_looked_at


def _draw(bench: CheckContext, task: Task) -> list[str]:
    """Draw some legal answers; fewer come back when something is wrong with them."""
    bench.at(f"legal answers to task {task.index} of category {shown(task.category)}")
    answers: list[str] = []
    try:
        for seed in range(NUM_DRAWS):
            first, again = (
                bench.environment.legal_answer(task, np.random.default_rng(seed)) for _ in range(2)
            )
            if not isinstance(first, str) or not first.strip():
                raise TypeError(f"expected a string with something in it, found {first!r}")
            if first != again:
                raise ValueError("the same generator gives different answers")
            answers.append(first)
    except Exception as error:  # foreign code may raise anything
        bench.find("legal-answer", f"legal_answer fails: {told(error)}", task.category, task.index)
    return answers


def _check_secret(
    bench: CheckContext, category: str, tasks: Sequence[Task], answers: Sequence[list[str]]
) -> None:
    """Compare legal answers drawn for a task with those drawn for its neighbour: neither may know more."""
    own = _share_right(bench, tasks, answers)
    others = _share_right(bench, tasks, [*answers[1:], answers[0]])
    if own - others > GIVEN_AWAY or (own == 1.0 and len({task.answer for task in tasks}) > 1):
        sentence = f"{own:.0%} of a task's legal answers are right, {others:.0%} of another task's"
        bench.find("gives-away", sentence, category, excerpt=shown(answers[0][0]))


def _share_right(bench: CheckContext, tasks: Sequence[Task], answers: Sequence[list[str]]) -> float:
    bench.at(f"the scores of legal answers in category {shown(tasks[0].category)}")
    jobs = [
        ScoringJob(task, (answer,)) for task, drawn in zip(tasks, answers, strict=True) for answer in drawn
    ]
    right = [bool(turn.score and turn.score.correct) for turn in bench.score_elsewhere(jobs)]
    return sum(right) / len(right)
