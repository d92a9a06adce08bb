"""`protocol: openenv` with a server of OpenEnv's own, in a process and an environment of its own."""

from __future__ import annotations

import pytest

from environments import EnvironmentSource, Scorer, ScoringJob
from environments.checker.findings import CheckLimits
from orchestrator.runs.api import run
from tests.environments.checker.here import findings_here
from tests.environments.remote.server import foreign_server, short_run

pytestmark = pytest.mark.slow

ASKED = "Is the number even or odd? Say one word."


@pytest.fixture(scope="module")
def source():
    options = {
        "action": "text", "observation": "prompt", "system": ASKED, "tasks": 40,
        "categories": {"low": {}, "high": {"start": 1000}},
    }  # fmt: skip
    with foreign_server("openenv", "openenv_game.py") as url:
        yield EnvironmentSource("parity", "http", {"protocol": "openenv", "urls": [url], "openenv": options})


def test_the_checker_finds_nothing_but_that_there_are_no_reference_answers(source):
    assert {f.rule for f in findings_here(source, CheckLimits(budget_s=1.0))} <= {"no-answer", "few-tasks"}


def test_an_episode_is_played_and_scored(source):
    parity = source.create()
    task = parity.task("high", 3)
    assert task.messages[-1]["content"] == "Is 1021 even or odd?"
    with Scorer([source], {"parity": parity}) as scorer:
        (again,) = scorer.turns([ScoringJob(task, ("even",), "one")])
        (done,) = scorer.turns([ScoringJob(task, ("even", "odd"), "one")])
        (lost,) = scorer.turns([ScoringJob(task, ("odd it is",), "two")])
    assert (again.done, [message["content"] for message in again.messages]) == (False, ["No. Again?"])
    assert (done.done, done.score.value, done.score.correct) == (True, 1.0, True)
    assert (lost.done, lost.score.value) == (False, 0.0)


def test_it_is_trained_on(source, tmp_path):
    assert run(short_run("parity", source.options), home=tmp_path).status == "finished"
