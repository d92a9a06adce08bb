"""What a user may get wrong: one clear message each, the right exit code, and a run that goes on once it is mended."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from environments import EnvironmentFault
from orchestrator.callbacks import Callback
from orchestrator.progress import Progress
from orchestrator.runs.api import resume, run
from orchestrator.runs.catalog import opened
from store.records import DECISION, StepRecord
from tests.conftest import Evergreen
from tests.integration.runs import At, ending, told
from tests.orchestrator.specs import alone, written
from tests.shares import share

Raw = dict[str, Any]


@pytest.fixture
def mood(tmp_path: Path) -> Path:
    path = tmp_path / "mood.txt"
    path.write_text("noisy")
    return path


def moody(mood: Path, name: str = "moody", **changes: Any) -> Raw:
    environments = {"one": {"type": "tests.integration.moody:create", "mood": str(mood)}}
    return alone(name) | {"environments": environments} | changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stpe": {"groups": 2}}, "stpe: unknown key. Did you mean 'step'?"),
        ({"policy": "./no-such-folder"}, "policy.model: the folder './no-such-folder' does not exist (looked in "),
        (
            {"environments": {"gym": {"type": "reasoning_gym", "dataset": "gdc"}}},
            "environments.gym.dataset: reasoning_gym has no data set 'gdc'; did you mean gcd",
        ),
        (
            {"environments": {"one": "my_envs:create"}},
            "environment type 'my_envs:create': no module 'my_envs'",
        ),
        (
            {"environments": {"one": {"type": "tests.environments.fakes:create", "colour": "red"}}},
            "cannot take the options ['colour']",
        ),
        (
            {"environments": {"one": {"type": "tests.environments.fakes:create", "held_out": ["easy", "hard"]}}},
            "nothing to train on: every category of one is only held out",
        ),
        (
            {"curriculum": {"bandit": {"type": "fixed", "weights": {"easy": -1}}}},
            "curriculum.bandit: bandit.weights must be at least 0",
        ),
    ],
    ids=[
        "misspelt key",
        "no model",
        "no data set",
        "no module",
        "no option",
        "nothing trainable",
        "bad weights",
    ],
)
def test_a_mistake_in_the_spec_is_told_in_one_message_and_leaves_nothing_behind(
    tmp_path: Path, evergreen: Evergreen, changes: Raw, message: str
) -> None:
    spec = written(tmp_path, alone() | changes)
    for verb in ("run", "validate"):
        result = evergreen(verb, spec, "--home", tmp_path / "home")
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith("error: ")
        assert message in result.stderr
        assert "Traceback" not in result.stderr
    assert not list((tmp_path / "home").glob("*/spec.yaml"))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("a name that is a number", "category 1: its name must be a printable string with something in it"),
        ("a name without a letter", "category ' ': its name must be a printable string with something in it"),
        ("a name on two lines", r"category 'x\ny': its name must be a printable string with something in it"),
        ("a name with half a character", r"category '\ud800': its name must be a printable string"),
        ("a long name", ": its name is longer than 100 characters"),
        ("parameters that are no JSON", "category 'a': parameters cannot be written as JSON (Object of type float32"),
        ("categories of a generator", "its categories must be a list or a tuple, found a generator"),
        (
            "a size that is no whole number",
            "category 'a': its size must be None or a whole number of at least 1, found",
        ),
        ("no tasks", "category 'a': its size must be None or a whole number of at least 1, found 0"),
        ("no messages", "one: task('a', 0) returned a task without messages"),
        ("content that is no text", "one: task('a', 0) returned a task with a message that is no map of"),
        ("a message that is a text", "one: task('a', 0) returned a task with a message that is no map of role and"),
        ("a size that raises", "category 'a': asking for its size raised KeyError: 'a', in broken_environment.py"),
        ("another environment's task", "one: task('a', 0) returned another task: 'another', 'a', 0"),
        ("another index", "one: task('a', 0) returned another task: 'one', 'a', 7"),
        ("an answer that is no text", "one: task('a', 0) returned a task whose answer is a int, not a string or None"),
    ],
)
@pytest.mark.parametrize("verb", ["validate", "run"])
def test_an_environment_that_breaks_its_contract_is_told_before_there_is_a_run(
    tmp_path: Path, evergreen: Evergreen, verb: str, how: str, said: str
) -> None:
    environments = {"one": {"type": "tests.integration.broken_environment:create", "how": how}}
    spec, home = written(tmp_path, alone("broken") | {"environments": environments}), tmp_path / "home"
    result = evergreen(verb, spec, "--home", home)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())
    assert not (home / "broken").exists()


def test_a_size_of_numpys_is_a_number(tmp_path: Path) -> None:
    environments = {"one": {"type": "tests.integration.broken_environment:create", "how": "a size of NumPy's"}}
    assert run(alone("sized") | {"environments": environments}, home=tmp_path).status == "finished"


def test_a_home_that_cannot_be_is_told(tmp_path: Path, evergreen: Evergreen) -> None:
    (tmp_path / "file").write_text("")
    result = evergreen("run", written(tmp_path, alone()), "--home", tmp_path / "file" / "home")
    assert result.exit_code == 2
    assert "cannot be made: Not a directory. Give a folder you can write to with --home" in result.stderr


@pytest.mark.parametrize("problem", ["cannot be built", "cannot make tasks"])
def test_an_environment_that_raises_before_the_run_leaves_no_run_behind(
    tmp_path: Path, evergreen: Evergreen, mood: Path, problem: str
) -> None:
    mood.write_text(problem)
    result = evergreen("run", written(tmp_path, moody(mood)), "--home", tmp_path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.search(r"raised OSError: tasks\.csv is gone, in moody\.py:\d+; mend ", result.stderr)
    assert evergreen("ls", "--json", "--home", tmp_path).stdout.strip() == "[]"


def test_an_environment_that_raises_in_a_task_loses_no_run(tmp_path: Path, evergreen: Evergreen, mood: Path) -> None:
    run(moody(mood, "whole"), home=tmp_path)

    def breaks() -> None:
        mood.write_text("cannot make tasks")

    with pytest.raises(EnvironmentFault, match="one: task"):
        run(moody(mood), home=tmp_path, watcher=At(4, breaks, ["step"]))
    assert told(tmp_path, "moody")["status"] == "failed"
    still = evergreen("resume", "moody", "--home", tmp_path)
    assert still.exit_code == 2
    said = r"raised OSError: tasks\.csv is gone, in moody\.py:\d+; mend the environment, then run or resume"
    assert re.search(said, still.stderr)
    mood.write_text("noisy")
    assert evergreen("resume", "moody", "--home", tmp_path).exit_code == 0
    assert ending(tmp_path, "moody") == ending(tmp_path, "whole")


BANDIT = """
from orchestrator.bandits.uniform import Uniform

class Moody(Uniform):
    def observe(self, seen):
        raise KeyError("no mood")

def create(arms, rng):
    return Moody(arms, rng)
"""


def test_what_a_bandit_of_ones_own_raises_is_told_with_its_line(tmp_path: Path, evergreen: Evergreen) -> None:
    (tmp_path / "moody_bandit.py").write_text(BANDIT)
    spec = alone("one")
    spec["curriculum"]["bandit"] = f"{tmp_path}/moody_bandit.py:create"
    result = evergreen("run", written(tmp_path, spec), "--home", tmp_path)
    said = "KeyError: 'no mood', in moody_bandit.py:6"
    assert (result.exit_code, "Traceback" in result.stderr) == (2, False)
    assert f"your code raised {said}; mend it, then run or resume" in " ".join(result.stderr.split())
    with opened(tmp_path, "one") as (_, ledger):
        assert ledger.reading.events("one")[-1].text == said


@pytest.mark.parametrize(
    ("problem", "reason"),
    share([("raising", "raised ValueError: cannot read"), ("wrong_valued", "bad value")], 1),
)
def test_three_steps_without_a_score_stop_the_run_and_it_goes_on_once_mended(
    tmp_path: Path, evergreen: Evergreen, mood: Path, problem: str, reason: str
) -> None:
    mood.write_text(problem)
    once = {"stages": 2, "stage": {"steps": 3}, "quarantine": None}
    stopped = evergreen("run", written(tmp_path, moody(mood, curriculum=once)), "--home", tmp_path)
    assert stopped.exit_code == 75
    assert f"4 samples of one could not be scored: {reason}" in stopped.stdout
    assert f"samples of one could not be scored in evaluation: {reason}" in stopped.stdout
    said = " ".join(stopped.stderr.split())
    assert "no sample of the last 3 steps could be scored, so there is nothing to train on" in said
    assert f"`evergreen show moody --home {tmp_path}` says why" in said
    assert f"Go on with: evergreen resume moody --home {tmp_path}" in said

    story = told(tmp_path, "moody")
    assert (story["status"], story["num_steps"], story["num_boundaries"]) == ("stopped", 3, 1)
    assert [(row["environment"], row["num_samples"]) for row in story["unscorable"]] == [("one", 12)]
    assert reason in story["unscorable"][0]["reason"]
    assert story["matrices"]["pass_1"]["0"] == {"one": None}, "unscorable is never zero"
    assert "reward" not in story["last_metrics"]
    shown = evergreen("show", "moody", "--home", tmp_path)
    assert shown.exit_code == 0
    assert reason in shown.stdout

    mood.write_text("noisy")
    assert evergreen("resume", "moody", "--home", tmp_path).exit_code == 0
    story = told(tmp_path, "moody")
    assert (story["status"], story["num_steps"], story["num_boundaries"]) == ("finished", 6, 3)
    assert [row["num_samples"] for row in story["unscorable"]] == [12], "what happened stays on record"
    with opened(tmp_path) as (_, ledger):
        assert [point.step for point in ledger.reading.series("moody", "loss")] == [4, 5, 6]


class HangsInStepOne(Callback):
    """Sets the mood around the first step, so that few scores have to be given up."""

    def __init__(self, mood: Path) -> None:
        self.mood = mood

    def stage(self, at: Progress) -> None:
        self.mood.write_text("hanging")

    def step(self, at: Progress, record: StepRecord) -> None:
        self.mood.write_text("noisy")


def test_a_score_that_hangs_is_given_up_and_the_run_goes_on(tmp_path: Path, mood: Path) -> None:
    spec = moody(mood, scoring={"timeout_s": 0.2, "workers": 1}, step={"groups": 1, "group_size": 2})
    spec["environments"]["one"]["in_process"] = False
    spec["curriculum"] = {"stages": 1, "stage": {"steps": 2}}
    assert run(spec, home=tmp_path, watcher=HangsInStepOne(mood)).status == "finished"
    story = told(tmp_path, "moody")
    assert story["unscorable"] == [{"environment": "one", "reason": "timed out", "num_samples": 2}]
    incidents = [event["kind"] for event in story["events"] if event["kind"] != DECISION]
    assert incidents == ["unscorable", "skipped update"]


def test_a_batch_without_scores_updates_nothing_and_is_remembered(tmp_path: Path, mood: Path) -> None:
    """The bandit hears of no signal; the controller hears the entropy, which was measured all the same."""
    mood.write_text("silent")
    run(moody(mood), home=tmp_path, until_step=2)
    with opened(tmp_path) as (_, ledger):
        arms = ledger.reading.arms("moody", "one")
        assert {0.0 <= (arm.value or 0.0) < 0.5 for arm in arms} == {True}
        assert len(ledger.reading.series("moody", "entropy_token")) == 2
        assert ledger.reading.series("moody", "loss") == []
    mood.write_text("noisy")
    assert resume("moody", home=tmp_path).status == "finished"
