"""What happens to a run as a process: killed, interrupted, asked to stop, in use."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from orchestrator.runs.api import resume
from tests.conftest import Evergreen
from tests.integration.processes import Process, run_and_be_killed
from tests.integration.runs import ending, told
from tests.orchestrator.specs import alone, small, written
from tests.shares import share


@pytest.mark.parametrize(
    "moment", share([4, 1, 11], 1)
)  # before the first checkpoint, and in the first and third stage
def test_a_run_ended_by_sigkill_resumes_to_the_same_end(finished: Path, tmp_path: Path, moment: int) -> None:
    name = f"sigkill-{moment}"
    spec = small(name, objective="repo_r", scoring={"isolation": "none"})
    spec["checkpoint"]["background"] = False  # one that is written beside the run may not be there by the next step
    process = Process(tmp_path, spec, finished, moment, call=run_and_be_killed)
    assert process.end()[0] == -signal.SIGKILL
    assert told(finished, name)["num_boundaries"] > 0
    assert (list((finished / name).glob("checkpoints/step-*")) == []) == (moment == 1)
    assert resume(name, home=finished).status == "finished"
    assert ending(finished, name) == ending(finished, "small")


def test_a_command_ended_by_sigkill_whenever_that_is_resumes_to_the_same_end(finished: Path, tmp_path: Path) -> None:
    spec = written(tmp_path, small("sigkill", objective="repo_r"))
    process = Process(tmp_path, "run", spec, "--home", finished)
    process.wait_for_step(finished, "sigkill", 1)
    delay_s = random.Random().uniform(0, 0.15)
    time.sleep(delay_s)
    process.signal(signal.SIGKILL)
    process.end()
    assert resume("sigkill", home=finished).status == "finished"
    assert ending(finished, "sigkill") == ending(finished, "small"), f"killed {delay_s} s after the first step"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_finishes_its_step_and_says_how_to_go_on(tmp_path: Path, number: int) -> None:
    process = Process(tmp_path, "run", written(tmp_path, alone(steps=500)), "--home", tmp_path)
    process.wait_for_step(tmp_path, "alone", 2)
    process.signal(number)
    exit_code, output = process.end()
    assert exit_code == 75
    assert f"Go on with: evergreen resume alone --home {tmp_path}" in " ".join(output.split())
    story = told(tmp_path, "alone")
    assert story["status"] == "stopped"
    assert resume("alone", home=tmp_path, until_step=story["num_steps"] + 1).reason is not None
    assert "resumed from the checkpoint of step" in told(tmp_path, "alone")["events"][-2]["text"]


def test_a_second_ctrl_c_kills_at_once(tmp_path: Path, evergreen: Evergreen) -> None:
    spec = alone(character="slow") | {"step": {"groups": 4, "group_size": 4}}  # .8 s a step
    process = Process(tmp_path, "run", written(tmp_path, spec), "--home", tmp_path, "--until-step", 30)
    process.wait_for_step(tmp_path, "alone", 1)
    time.sleep(0.1)
    process.signal(signal.SIGINT)
    time.sleep(0.1)
    process.signal(signal.SIGINT)
    exit_code, output = process.end()
    assert exit_code == 130
    assert "goes on from its last checkpoint" in output
    assert '"status": "killed"' in evergreen("ls", "--json", "--home", tmp_path).stdout


def test_a_run_in_another_process_is_busy_and_can_be_asked_to_stop(tmp_path: Path, evergreen: Evergreen) -> None:
    process = Process(tmp_path, "run", written(tmp_path, alone(steps=500)), "--home", tmp_path)
    process.wait_for_step(tmp_path, "alone", 1)
    refused = evergreen("resume", "alone", "--home", tmp_path)
    assert refused.exit_code == 2
    assert "is in use by process" in refused.stderr
    asked = evergreen("stop", "alone", "--home", tmp_path)
    assert asked.exit_code == 0
    exit_code, output = process.end()
    assert exit_code == 75
    assert "asked to stop" in output
    idle = evergreen("stop", "alone", "--home", tmp_path)
    assert idle.exit_code == 2
    assert "alone is not running" in idle.stderr
    assert evergreen("stop", "alon", "--home", tmp_path).exit_code == 2
