"""`examples/everything.yaml`: six kinds of environment in one curriculum, one of them in a server of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import Evergreen
from tests.orchestrator.specs import REPOSITORY

SPEC = REPOSITORY / "examples" / "everything.yaml"
ENVIRONMENTS = ["clock", "divisors", "book", "walk", "ice", "guess"]
SHORT = [
    "warm_start.environments={clock: {batches: 2}, walk: {batches: 2}, guess: {batches: 2}}",
    *("curriculum.stage.steps=1", "step={groups: 4, group_size: 4}", "evaluate={items: 2, samples: 4}", "tracker=none"),
]


def changed(*changes: str) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


def test_it_plays_all_six_and_tells_of_them(tmp_path: Path, evergreen: Evergreen, example_url: str) -> None:
    pytest.importorskip("gymnasium")
    pytest.importorskip("reasoning_gym")
    at = f"environments.guess.urls=[{example_url}]"
    result = evergreen("run", SPEC, *changed(*SHORT, at), "--home", tmp_path)
    assert result.exit_code == 0, result.stderr
    told = json.loads(evergreen("show", "everything", "--json", "--home", tmp_path).stdout)
    assert (told["status"], told["num_steps"], told["unscorable"]) == ("finished", 6, [])
    assert list(told["environments"]) == ENVIRONMENTS
    assert {one["environment"] for one in told["stages"]} == {*ENVIRONMENTS}
    assert evergreen("report", "everything", "--home", tmp_path).exit_code == 0
    page = (tmp_path / "everything" / "report.html").read_text()
    assert [name for name in ENVIRONMENTS if name not in page or name not in result.stdout] == []


def test_without_its_server_it_says_in_a_sentence_what_did_not_answer(tmp_path: Path, evergreen: Evergreen) -> None:
    begun = time.monotonic()
    result = evergreen(
        "run", SPEC, *changed(*SHORT, "environments.guess.urls=[http://127.0.0.1:9]"), "--home", tmp_path
    )
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.strip().splitlines()
    assert "environment guess: no server answers as one of environments at http://127.0.0.1:9 (connection" in line
    assert "env_server.py" in line
    assert time.monotonic() - begun < 20
    assert not (tmp_path / "everything").exists(), "the next run has the name"


@pytest.mark.slow
def test_the_whole_of_it_takes_less_than_three_minutes(tmp_path: Path, example_url: str) -> None:
    """From the start of its process, as it stands but for the server's port; with two cores, or one that is free."""
    pytest.importorskip("gymnasium")
    pytest.importorskip("reasoning_gym")
    command = [sys.executable, "-c", "from orchestrator.cli import main; main()", "run", str(SPEC)]
    at = f"environments.guess.urls=[{example_url}]"
    begun = time.monotonic()
    done = subprocess.run([*command, "--set", at, "--home", str(tmp_path)], capture_output=True, text=True)
    took = time.monotonic() - begun
    assert done.returncode == 0, done.stderr
    assert took < 180
    assert "120 of 120 steps" in done.stdout
