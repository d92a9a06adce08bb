from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from orchestrator.cli.run_state import Course, Outline, Phase
from orchestrator.progress import Progress
from store.records import ArmRecord, BoundaryRecord, CellRecord, EventRecord, MetricRecord, StepRecord

STAGES, STEPS = 4, 10


@pytest.fixture
def course(tmp_path: Path) -> Course:
    heard = Course()
    spec = {"curriculum": {"stages": STAGES, "stage": {"steps": STEPS, "stop": []}}}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
    heard.begin("demo", str(tmp_path))
    return heard


def at(step: int, stage: int, stage_step: int, environment: str | None = "words") -> Progress:
    return Progress(STAGES, STEPS, step=step, stage=stage, stage_step=stage_step, environment=environment)


def step(course: Course, number: int, stage: int = 1, environment: str | None = "words", **numbers: float) -> None:
    metrics = [
        MetricRecord("reward", 99.0),  # of the whole batch: with what is replayed
        MetricRecord("reward", numbers.get("reward", 0.0), environment),
        MetricRecord("reward", 98.0, "words", "3"),
        MetricRecord("seconds_play", 0.3),
        MetricRecord("seconds_update", 0.1),
    ]
    arms = [
        *(ArmRecord("words", name, p, 0.1, 1) for name, p in (("10", 0.7), ("9", 0.3))),
        ArmRecord("*", "words", 1.0, numbers.get("learnt"), 1),
    ]
    stage_step = number - (stage - 1) * STEPS
    progress = at(number, stage, stage_step, environment)
    record = StepRecord(number, stage, stage_step, numbers.get("seconds", 0.5), 1, 1, (), (), (), metrics, arms)
    course.step(progress, record)


def boundary(course: Course, after: int, number: int, *cells: tuple[str, float], seconds: float = 2.0) -> None:
    records = [
        record
        for name, value in cells
        for record in (
            CellRecord(name, None, "pass_1", value, None, 1, 1),
            CellRecord(name, None, "pass_1", 9.0, None, 1, 1, "select"),
            CellRecord(name, "3", "pass_1", 8.0, None, 1, 1),
            CellRecord(name, None, "value", 7.0, None, 1, 1),
            CellRecord(name, None, "entropy_token", 2 - value, None, 1, 1),
        )
    ]
    course.boundary(at(number, after, 0), BoundaryRecord(after, number, seconds, {}, records))


def test_reward_and_entropy_are_of_the_stages_last_steps(course: Course) -> None:
    for number in range(1, 11):
        step(course, number, reward=1.0)
    assert course.snapshot().reward == 1.0
    course.stage(at(10, 2, 0))
    assert course.snapshot().reward is None, "another environment's reward says nothing of this one's"
    step(course, 11, stage=2, reward=0.2)
    step(course, 12, stage=2, reward=0.4)
    assert course.snapshot().reward == pytest.approx(0.3)
    assert course.snapshot().entropy is None
    assert course.snapshot().step_s == pytest.approx(0.5), "speed goes on over stages"


def test_the_window_is_ten_steps(course: Course) -> None:
    for number in range(1, 31):
        step(course, number, reward=float(number), stage=1)
    assert course.snapshot().reward == pytest.approx(25.5)


def test_where_the_time_goes_adds_up(course: Course) -> None:
    step(course, 1)
    shares = dict(course.snapshot().shares)
    assert shares["play"] == pytest.approx(0.75)
    assert sum(shares.values()) == pytest.approx(1)


def test_standings_are_compared_with_the_start(course: Course) -> None:
    boundary(course, 0, 0, ("words", 0.2), ("book", 0.5))
    assert [(a.environment, a.accuracy, a.change, a.entropy, a.left) for a in course.snapshot().standings] == [
        ("book", 0.5, None, 1.5, None),
        ("words", 0.2, None, 1.8, None),
    ]
    boundary(course, 1, 10, ("words", 0.5), ("new", 0.3))
    shot = course.snapshot()
    assert shot.after_stage == 1
    assert {a.environment: a.change for a in shot.standings} == {"words": pytest.approx(0.3), "new": None}
    assert {a.environment: a.left for a in shot.standings} == {"words": pytest.approx(1.5 / 1.8), "new": None}


def test_an_evaluation_inside_a_stage_is_newer_than_the_boundary_until_the_next(course: Course) -> None:
    boundary(course, 0, 0, ("words", 0.2), ("book", 0.5))
    metrics = [
        MetricRecord("eval_pass_1", 0.4, "words"),
        MetricRecord("eval_pass_1", 9.0, "words", "3"),
        MetricRecord("eval_entropy_token", 0.9, "words"),
        MetricRecord("seconds_evaluate", 3.0),
    ]
    course.step(at(5, 1, 5), StepRecord(5, 1, 5, 0.5, 1, 1, metrics=metrics))
    words = course.snapshot().standings[1]
    assert (words.accuracy, words.entropy, words.step) == (0.4, 0.9, 5)
    assert words.change == pytest.approx(0.2)
    assert words.left == pytest.approx(0.5)
    assert course.snapshot().standings[0].step is None, "book was not looked at"
    boundary(course, 1, 10, ("words", 0.5), ("book", 0.5))
    assert course.snapshot().standings[1].step is None


def test_time_left_counts_evaluations_inside_stages(tmp_path: Path) -> None:
    spec = {"curriculum": {"stages": STAGES, "stage": {"steps": STEPS}}, "evaluate": {"every": 4}}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
    looking = Course()
    looking.begin("demo", str(tmp_path))
    boundary(looking, 0, 0, ("words", 0.2), seconds=2.0)
    looking.stage(at(0, 1, 0))
    looking.step(at(4, 1, 4), StepRecord(4, 1, 4, 0.5, 1, 1, metrics=[MetricRecord("seconds_evaluate", 3.0)]))
    assert looking.snapshot().left_s == pytest.approx(36 * 0.5 + 4 * 2.0 + 7 * 3.0), "7 of 8 looks are to come"


def test_time_left_counts_steps_and_boundaries(course: Course) -> None:
    assert course.snapshot().left_s is None
    boundary(course, 0, 0, ("words", 0.2), seconds=2.0)
    course.stage(at(0, 1, 0))
    step(course, 1)
    shot = course.snapshot()
    assert shot.steps_left == 39
    assert shot.left_s == pytest.approx(39 * 0.5 + 4 * 2.0)


def test_a_stage_that_ended_early_leaves_no_steps_behind(course: Course) -> None:
    boundary(course, 0, 0, ("words", 0.2))
    assert course.snapshot().steps_left == 40
    course.stage(at(0, 1, 0))
    step(course, 1)
    boundary(course, 1, 1, ("words", 0.2))
    assert course.snapshot().steps_left == 30
    course.stage(at(1, 2, 0))
    assert course.snapshot().steps_left == 30
    assert course.snapshot().step == 1


def test_arms_are_those_of_the_stages_environment_in_natural_order(course: Course) -> None:
    step(course, 1)
    assert [arm.name for arm in course.snapshot().arms] == ["9", "10"]
    step(course, 2, environment=None)
    assert [arm.name for arm in course.snapshot().arms] == ["words"], "in flat mode one bandit has them all"


def test_a_scheduler_is_shown_once_it_has_learnt_something(course: Course) -> None:
    step(course, 1)
    assert course.snapshot().schedule == ()
    step(course, 2, learnt=0.4)
    assert [arm.name for arm in course.snapshot().schedule] == ["words"]


def test_what_takes_a_while_lasts_until_something_is_done(course: Course) -> None:
    course.phase("finding the held-out tasks")
    assert course.snapshot().phase == Phase("finding the held-out tasks")
    course.warm_start(3, 9, 2.5)
    assert course.snapshot().phase == Phase("warm start, loss 2.50", 3, 9)
    course.measuring("evaluating words.3", 1, 4)
    assert course.snapshot().phase == Phase("evaluating words.3", 1, 4)
    boundary(course, 0, 0, ("words", 0.1))
    assert course.snapshot().phase is None


def test_the_last_event_comes_with_its_step(course: Course) -> None:
    step(course, 7)
    course.event([])
    course.event([EventRecord("unscorable", "first").text, "last"])
    course.decision(["stage 1: words"])
    step(course, 8)
    assert (course.snapshot().event, course.snapshot().decision) == ("step 7: last", "stage 1: words")


@pytest.mark.parametrize(("stop", "may_end_early"), [([], False), ([{"type": "mastery"}], True)])
def test_an_outline_knows_whether_stages_may_end_early(stop: list[object], may_end_early: bool) -> None:
    spec = {"curriculum": {"stages": 2, "stage": {"steps": 3, "stop": stop}}}
    assert Outline.of(spec) == Outline(2, 3, may_end_early)
