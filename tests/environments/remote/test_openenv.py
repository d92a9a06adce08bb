"""`protocol: openenv` with a server of OpenEnv's own, in a process and an environment of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from environments import EnvironmentSource, Scorer, ScoringJob
from environments.checker.findings import CheckLimits
from orchestrator.runs.api import run
from tests.environments.checker.here import findings_here

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
ASKED = "Is the number even or odd? Say one word."


@pytest.fixture(scope="module")
def source():
    python = Path(os.environ.get("EVERGREEN_OPENENV_PYTHON", ROOT / ".venv-openenv" / "bin" / "python"))
    if not python.exists():
        pytest.fail(f"there is no {python}: `make openenv` makes it, or name one with EVERGREEN_OPENENV_PYTHON")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    with subprocess.Popen([python, Path(__file__).parent / "openenv_game.py", str(port)]) as server:
        try:
            until = time.monotonic() + 120
            while socket.socket().connect_ex(("127.0.0.1", port)):
                assert server.poll() is None
                assert time.monotonic() < until, "it does not start"
                time.sleep(0.1)
            options = {
                "action": "text", "observation": "prompt", "system": ASKED, "tasks": 40,
                "categories": {"low": {}, "high": {"start": 1000}},
            }  # fmt: skip
            given = {"protocol": "openenv", "urls": [f"http://127.0.0.1:{port}"], "openenv": options}
            yield EnvironmentSource("parity", "http", given)
        finally:
            server.terminate()


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
    spec = {
        "name": "parity", "policy": {"model": "tiny", "layers": 1, "hidden": 16, "mlp": 16},
        "environments": {"parity": {"type": "http", **source.options}},
        "curriculum": {"stages": 1, "stage": {"steps": 2}}, "step": {"groups": 4, "group_size": 4},
        "sampler": {"type": "transformers", "max_tokens": 8, "turn_tokens": 4},
        "evaluate": {"items": 4, "samples": 4}, "tracker": "none",
    }  # fmt: skip
    assert run(spec, home=tmp_path).status == "finished"
