"""Runs that go on: lengthened, forked, with other settings, with environments that join."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import orchestrator
from orchestrator.errors import SpecError, UserError
from orchestrator.runs.catalog import opened
from tests.conftest import Evergreen
from tests.integration.runs import At, Killed, component, ending, kill, series, told
from tests.orchestrator.specs import alone, flat, small
from tests.shares import share

JOINING = "environments.more={type: codebook, categories: {two: 2}, keys: 5}"


@pytest.fixture(scope="module")
def home(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a finished run of three stages. Tests fork it and leave it alone."""
    return copy_of(finished, tmp_path_factory.mktemp("home"))


def copy_of(finished: Path, folder: Path) -> Path:
    return Path(shutil.copytree(finished, folder, dirs_exist_ok=True))


def longer(spec: dict[str, Any], stages: int) -> dict[str, Any]:
    return {**spec, "curriculum": {**spec["curriculum"], "stages": stages}}


@pytest.mark.parametrize("spec", share([flat(objective="repo"), small(objective="repo_r")], 1))
def test_a_finished_run_lengthened_is_the_longer_run(finished: Path, tmp_path: Path, spec: dict[str, Any]) -> None:
    name = spec["name"]
    copy_of(finished, tmp_path / "short")
    assert orchestrator.resume(name, home=tmp_path / "short", stages=5).status == "finished"
    orchestrator.run(longer(spec, 5), home=tmp_path / "long")
    assert ending(tmp_path / "short", name) == ending(tmp_path / "long", name)
    story = told(tmp_path / "short", name)
    assert story["planned_steps"] == 15
    assert "5 stages in all instead of 3" in [event["text"] for event in story["events"]]


def test_lengthening_survives_a_kill(tmp_path: Path) -> None:
    orchestrator.run(alone(), home=tmp_path)
    with pytest.raises(Killed):
        orchestrator.resume("alone", home=tmp_path, stages=4, watcher=At(2, kill))
    assert orchestrator.resume("alone", home=tmp_path).status == "finished"
    assert len(told(tmp_path, "alone")["stages"]) == 4


def test_a_finished_run_without_more_stages_stays_as_it_is(home: Path) -> None:
    class Phases(orchestrator.Callback):
        def phase(self, text: str) -> None:
            heard.append(text)

    heard: list[str] = []
    before = ending(home, "small")
    assert orchestrator.resume("small", home=home, stages=3, watcher=Phases()).status == "finished"
    assert ending(home, "small") == before
    assert heard[0] == "small is finished; `evergreen resume small --stages N` lengthens it"


def test_a_run_cannot_get_fewer_stages_than_it_has_begun(home: Path) -> None:
    with pytest.raises(UserError, match="small has begun stage 3 already: --stages 2 is too few"):
        orchestrator.resume("small", home=home, stages=2)


@pytest.mark.parametrize("stage", share([1, 0, 2], 1))
def test_a_fork_that_changes_nothing_ends_as_its_parent(home: Path, stage: int) -> None:
    outcome = orchestrator.fork("small", stage, home=home, overrides=[f"name=twin-{stage}"])
    assert ending(home, outcome.name) == ending(home, "small")


def test_a_fork_shares_its_past_and_goes_its_own_way(home: Path) -> None:
    before = ending(home, "small")
    name = orchestrator.fork("small", 1, home=home, overrides=["learner.lr=0", "curriculum.stages=4"]).name
    assert name == "small-fork"
    assert ending(home, "small") == before
    parent, forked = series(home, "small", "reward"), series(home, name, "reward")
    assert (forked[:3], len(forked)) == (parent[:3], 12)
    assert set(series(home, name, "lr")[3:]) == {0.0}
    story = told(home, name)
    assert story["parent"] == {"name": "small", "after_stage": 1}
    assert "forked from small after stage 1" in [event["text"] for event in story["events"]]
    first, parents_first = story["stages"][0], told(home, "small")["stages"][0]
    assert first["environment"] == parents_first["environment"]


@pytest.mark.parametrize(
    "scheduler", share(["{type: discounted_ucb, reward: total_gain}", "boltzmann", "round_robin"], 1)
)
def test_an_environment_may_join_at_a_fork(home: Path, scheduler: str) -> None:
    overrides = [JOINING, f"curriculum.scheduler={scheduler}", "curriculum.stages=7"]
    name = orchestrator.fork("small", 2, home=home, overrides=overrides).name
    story = told(home, name)
    accuracy = story["matrices"]["pass_1"]
    assert "more" not in accuracy["1"]
    assert all("more" in accuracy[str(stage)] for stage in range(2, 8))
    assert "more" in {stage["environment"] for stage in story["stages"]}
    assert len({cell.eval_config for cell in cells(home, name)}) == 1, "the old cells and the new ones compare"


def cells(home: Path, name: str) -> list[Any]:
    with opened(home, name) as (_, ledger):
        return ledger.reading.matrix(name, "pass_1")


def test_a_fork_that_is_killed_before_its_second_checkpoint_says_once_where_it_comes_from(tmp_path: Path) -> None:
    orchestrator.run(alone(), home=tmp_path, until_step=4)
    overrides = ["name=cut", "curriculum.bandit=uniform"]
    with pytest.raises(Killed):
        orchestrator.fork("alone", 1, home=tmp_path, overrides=overrides, watcher=At(1, kill))
    with pytest.raises(Killed):
        orchestrator.resume("cut", home=tmp_path, watcher=At(1, kill))
    texts = [event["text"] for event in told(tmp_path, "cut")["events"]]
    assert texts.count("forked from alone after stage 1") == 1
    assert texts.count("begins anew after the fork: the bandits") == 1
    assert texts.count("resumed from the checkpoint of step 3, with the spec the run began with") == 1


@pytest.mark.parametrize("moment", share([1, 2, 5], 1))
@pytest.mark.slow
def test_a_fork_with_a_new_environment_survives_a_kill(home: Path, tmp_path: Path, moment: int) -> None:
    whole = orchestrator.fork("small", 1, home=home, overrides=[JOINING, "name=whole"]).name
    with pytest.raises(Killed):
        orchestrator.fork("small", 1, home=home, overrides=[JOINING, f"name=cut-{moment}"], watcher=At(moment, kill))
    orchestrator.resume(f"cut-{moment}", home=home)
    assert ending(home, f"cut-{moment}") == ending(home, whole)


def test_what_gets_another_type_begins_anew_and_says_so(home: Path) -> None:
    overrides = ["curriculum.bandit=uniform", "curriculum.scheduler=boltzmann", "objective=rloo"]
    name = orchestrator.fork("small", 1, home=home, overrides=overrides).name
    events = [event["text"] for event in told(home, name)["events"] if event["kind"] == "begins anew"]
    parts = [text.removeprefix("begins anew after the fork: ") for text in events]
    assert parts == ["the bandits", "the scheduler", "the objective's controllers"]


def test_bandits_that_are_told_another_signal_begin_anew_and_say_so(home: Path) -> None:
    name = orchestrator.fork("small", 1, home=home, overrides=["curriculum.bandit.signal=standardised"]).name
    events = [event["text"] for event in told(home, name)["events"] if event["kind"] == "begins anew"]
    assert events == ["begins anew after the fork: the bandits, which are told another `signal`"]


def test_entropies_of_another_temperature_are_not_compared_with_those_of_the_start(home: Path) -> None:
    name = orchestrator.fork("small", 1, home=home, overrides=["sampler.temperature=0.4"]).name
    events = [event["text"] for event in told(home, name)["events"] if event["kind"] == "begins anew"]
    assert events == [
        "begins anew after the fork: the reading of entropy in book, noise and numbers, whose next values are the start"
    ]
    before, after = (component(home, one, "objective")["entropy"] for one in ("small", name))
    assert (before["source"]["temperature"], after["source"]["temperature"]) == (1.0, 0.4)
    assert after["baseline"].keys() & before["baseline"].keys()
    assert not after["baseline"].items() & before["baseline"].items()


def test_a_fork_with_shorter_stages_counts_its_steps_as_they_are(home: Path) -> None:
    overrides = ["curriculum.stage.steps=1", "curriculum.stages=4"]
    name = orchestrator.fork("small", 2, home=home, overrides=overrides).name
    story = told(home, name)
    assert (story["num_steps"], story["planned_steps"]) == (8, 8)


REFUSED = [
    ("policy.layers=2", "policy: a fork keeps its parent's, because its weights are the parent's"),
    ("evaluate.items=9", "evaluate: a fork keeps its parent's"),
    (
        "environments.book.keys=9",
        "environments.book: is not the parent's any more; give a changed one a new name",
    ),
    ("curriculum={mode: flat, stages: 9}", "curriculum.mode: the parent is staged"),
    ("curriculum.stages=2", "curriculum.stages: 2 leaves nothing to do after stage 2; say more"),
    ("learner.lrr=1", "learner.lrr: unknown key"),
]


@pytest.mark.parametrize(("override", "message"), REFUSED)
def test_a_fork_that_could_not_go_on_is_refused_and_leaves_nothing(home: Path, override: str, message: str) -> None:
    runs = sorted(path.name for path in home.iterdir())
    with pytest.raises(SpecError) as refused:
        orchestrator.fork("small", 2, home=home, overrides=[override])
    assert message in str(refused.value)
    assert sorted(path.name for path in home.iterdir()) == runs


@pytest.mark.parametrize("overrides", [[], ["curriculum.stages=12"]])
def test_a_boundary_that_is_not_there_is_named_with_those_that_are(home: Path, overrides: list[str]) -> None:
    with pytest.raises(UserError, match=r"after stage 9; there are: 0, 1, 2, 3"):
        orchestrator.fork("small", 9, home=home, overrides=overrides)


def test_weights_of_before_a_fork_are_its_parents(finished: Path, tmp_path: Path, evergreen: Evergreen) -> None:
    home, folder = copy_of(finished, tmp_path / "home"), tmp_path / "weights"
    forked = orchestrator.fork("small", 2, home=home, until_step=7).name
    refused = evergreen("weights", forked, folder, "--stage", 1, "--home", home)
    command = f"`evergreen weights small {folder} --stage 1 --home {home}`"
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert f"there are: 2; it was forked after stage 2: {command}" in " ".join(refused.stderr.split())


def test_the_command_line_forks_and_lengthens(evergreen: Evergreen, tmp_path: Path) -> None:
    orchestrator.run(alone(), home=tmp_path)
    assert evergreen("resume", "alone", "--stages", 3, "--home", tmp_path).exit_code == 0
    result = evergreen("fork", "alone", "--stage", 1, "--set", "learner.lr=0", "--home", tmp_path)
    assert result.exit_code == 0
    listed = json.loads(evergreen("ls", "--json", "--home", tmp_path).stdout)
    assert [(run["name"], run["parent"], run["num_steps"]) for run in listed] == [
        ("alone-fork", "alone", 9),
        ("alone", None, 9),
    ]
