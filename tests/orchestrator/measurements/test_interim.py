from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from environments.codebook import Codebook, Config
from orchestrator.errors import SpecError
from orchestrator.measurements.evaluation import MEASURES, Evaluation
from orchestrator.measurements.interim import InterimEvaluation, InterimFindings
from orchestrator.progress import Progress
from orchestrator.runs.environments import find_held_out
from orchestrator.spec import load_spec
from orchestrator.spec.sections import Evaluate
from orchestrator.stopwatch import Stopwatch
from store.metrics import INTERIM, METRICS
from tests.environments.fakes import create
from tests.orchestrator.measurements.test_evaluation import EASY, Scripted
from tests.orchestrator.specs import alone


def evaluated(at: Progress, player: Any = None, watch: Stopwatch | None = None, **section: Any) -> InterimFindings:
    environments = {
        "fake": create("fake", categories=["easy"]),
        "book": Codebook("book", Config(categories={"two": 2}, keys=5)),
    }
    chosen = Evaluate(items=2, samples=4, **section)
    held_out = {"anchor": find_held_out(environments, "anchor", 2)}
    rollouts: Any = SimpleNamespace(settle=lambda watch: None)
    interim = InterimEvaluation(chosen, Evaluation(chosen, environments, held_out), player or Scripted(), rollouts)
    return interim.run(at, watch or Stopwatch(), lambda *told: None)


def at(stage_step: int, environment: str | None = "fake", **more: Any) -> Progress:
    return Progress(2, 6, step=stage_step, stage=1, stage_step=stage_step, environment=environment, **more)


def test_it_is_due_every_so_many_steps_of_a_stage_but_not_where_a_boundary_comes() -> None:
    assert [step for step in range(1, 7) if evaluated(at(step), every=2).metrics] == [2, 4]
    assert not evaluated(at(4, stop_reason="mastered"), every=2).metrics
    assert not any(evaluated(at(step)).metrics for step in range(1, 6)), "by default none is"


@pytest.mark.parametrize(
    ("environment", "on", "expected"),
    [("fake", "stage", {"fake"}), ("fake", "all", {"fake", "book"}), (None, "stage", {"fake", "book"})],
)
def test_it_plays_the_stages_environment_or_all(environment: str | None, on: str, expected: set[str]) -> None:
    found = evaluated(at(2, environment), every=2, every_on=on)
    assert {one.environment for one in found.metrics} == expected | {None}, "the time is the batch's"


def test_its_numbers_are_those_of_the_evaluation_under_names_of_their_own() -> None:
    player = Scripted(fake_easy=EASY)
    found = evaluated(at(2), player, every=2, greedy=True)
    by_place = {(one.name, one.category): one for one in found.metrics}
    accuracy = by_place["eval_pass_1", "easy"]
    assert (accuracy.value, accuracy.n) == (0.5, 2)
    assert by_place["eval_pass_1", None].value == 0.5
    names = {INTERIM + metric for metric in (*MEASURES, "entropy_token", "greedy_accuracy")}
    assert {name for name, _ in by_place} == names | {"seconds_evaluate"}
    assert {one.name for one in METRICS.values() if one.name.startswith(INTERIM)} == names
    streams = {(stream, step) for stream, step, *_ in player.asked}
    assert streams == {("evaluate/easy", 0), ("greedy/easy", 0)}, "the random numbers of boundaries"


def test_what_could_not_be_scored_is_said() -> None:
    (event,) = evaluated(at(2), Scripted(fake_easy=EASY), every=2).events
    assert event.kind == "unscorable in evaluation", "and is not counted among the training's samples"
    assert "2 samples of fake could not be scored in evaluation" in event.text


def test_its_time_is_not_the_steps() -> None:
    watch = Stopwatch()
    with watch.aside() as own, own("play"):
        while own.total < 0.02:
            pass
    assert watch.total < 0.01
    assert watch.seconds == {}
    assert own.seconds["play"] > 0.01


@pytest.mark.parametrize(
    ("evaluate", "message"),
    [
        ({"every": 3}, "evaluate.every: 3 steps are all of a stage"),
        ({"every_on": "all"}, "nothing is evaluated inside stages; say `every: N` too"),
        ({"every": -1}, "evaluate.every"),
        ({"every": 2, "every_on": "own"}, "evaluate.every_on"),
    ],
)
def test_what_means_nothing_is_refused(evaluate: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        load_spec(alone() | {"evaluate": evaluate})
