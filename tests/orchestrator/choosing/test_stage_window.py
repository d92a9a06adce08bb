from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from orchestrator.choosing.stage_scheduler import StopConditions
from orchestrator.progress import Progress, StageWindow
from orchestrator.spec.sections import Stage
from orchestrator.stop_rules.contracts import WindowStats
from tests.orchestrator.rollout.episodes import earning

EASY = earning("easy", [True, True, False, True], 0.375)
HARD = earning("hard", [False, False, False, True], 0.375)
BROKEN = earning("hard", [], None)  # nothing of it could be scored


def test_an_eval_is_ten_steps_and_every_category_counts_alike() -> None:
    evals = StageWindow()
    done = [evals.add_step([EASY, EASY, EASY, HARD]) for _ in range(20)]
    assert [i + 1 for i, is_eval in enumerate(done) if is_eval] == [10, 20]
    assert evals.history == [WindowStats(0.5, 40, 0.375)] * 2


def test_a_category_that_was_not_drawn_keeps_its_last_score() -> None:
    evals = StageWindow()
    for groups in ([EASY, HARD], [EASY]):
        for _ in range(10):
            evals.add_step(groups)
    assert [one.score for one in evals.history] == [0.5, 0.5]


def test_a_category_never_drawn_does_not_count_yet() -> None:
    evals = StageWindow()
    for _ in range(10):
        evals.add_step([EASY])
    assert evals.history == [WindowStats(0.75, 10, 0.375)]


def test_ten_steps_in_which_nothing_was_scored_are_no_eval() -> None:
    evals = StageWindow()
    done = [evals.add_step([BROKEN]) for _ in range(10)]
    assert (done, evals.history) == ([False] * 10, [])
    for _ in range(10):
        evals.add_step([BROKEN, HARD])
    assert evals.history == [WindowStats(0.25, 10, 0.375)]


@pytest.mark.parametrize("num_steps", [3, 10, 17])
def test_they_go_on_from_their_state_after_json(num_steps: int) -> None:
    evals = StageWindow()
    for _ in range(num_steps):
        evals.add_step([EASY, HARD])
    copy = StageWindow.from_state(json.loads(json.dumps(asdict(evals))))
    assert copy == evals
    for one in (evals, copy):
        for _ in range(10):
            one.add_step([HARD])
    assert copy == evals


def test_the_order_of_categories_changes_no_bit() -> None:
    """A checkpoint has them by name."""
    one = StageWindow(scores={"z": 4 / 7, "m": 1 / 7, "a": 1 / 7})
    other = StageWindow.from_state(json.loads(json.dumps(asdict(one), sort_keys=True)))
    for window in (one, other):
        for _ in range(10):
            window.add_step([earning("m", [False] * 6 + [True], 0.375)])
    assert one.history == other.history


def standing(stage_step: int, score: float = 0.99) -> Progress:
    at = Progress(num_stages=2, steps_per_stage=100, stage=1, stage_step=stage_step)
    at.window.history += [WindowStats(score, 5000, 0.001)] * (stage_step // 10)
    return at


def test_the_first_rule_with_a_reason_speaks() -> None:
    stopping = StopConditions(Stage.model_validate({"steps": 100, "stop": ["mastery", "dead_signal"]}))
    assert (stopping.verdict(standing(40)) or "").startswith("mastery")
    assert (stopping.verdict(standing(40, score=0.1)) or "").startswith("dead signal")


def test_no_rule_speaks_before_the_least_steps_or_at_the_budgets_end() -> None:
    stopping = StopConditions(Stage.model_validate({"steps": 100, "stop": "mastery", "min_steps": 50}))
    assert stopping.verdict(standing(40)) is None
    assert stopping.verdict(standing(50)) is not None
    assert stopping.verdict(standing(100)) is None


def test_without_rules_nothing_stops() -> None:
    assert StopConditions(Stage()).verdict(standing(40)) is None
