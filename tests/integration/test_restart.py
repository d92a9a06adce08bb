"""`run --resume-if-there`: one command that begins a run and goes on with it, for schedulers that start it again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

import orchestrator
from orchestrator.runs import api
from orchestrator.runs.kept_spec import changes_on_resume
from orchestrator.spec import load_spec
from store.lock import run_lock
from tests.conftest import Evergreen
from tests.integration.runs import ending, told
from tests.orchestrator.specs import alone, written


def names(evergreen: Evergreen, home: Path) -> list[str]:
    return sorted(run["name"] for run in json.loads(evergreen("ls", "--json", "--home", home).stdout))


def restart(evergreen: Evergreen, folder: Path, spec: dict[str, Any], *options: str) -> Any:
    return evergreen("run", written(folder, spec), "--home", folder / "home", "--resume-if-there", *options)


def test_the_same_command_begins_a_run_goes_on_with_it_and_leaves_it_when_it_is_finished(
    tmp_path: Path, evergreen: Evergreen
) -> None:
    home = tmp_path / "home"
    assert restart(evergreen, tmp_path, alone(), "--until-step", "2").exit_code == 75
    assert restart(evergreen, tmp_path, alone(), "--until-step", "4").exit_code == 75
    assert restart(evergreen, tmp_path, alone()).exit_code == 0
    done = restart(evergreen, tmp_path, alone())
    assert done.exit_code == 0
    assert "alone is finished" in done.stdout + done.stderr
    assert names(evergreen, home) == ["alone"]
    orchestrator.run({**alone(), "name": "whole"}, home=home)
    assert ending(home, "alone") == ending(home, "whole")


def test_what_a_guard_stopped_stays_stopped_until_a_person_goes_on(tmp_path: Path, evergreen: Evergreen) -> None:
    spec = alone() | {"guards": [{"when": "response_len > 0", "steps": 2, "action": "stop"}]}
    assert restart(evergreen, tmp_path, spec).exit_code == 75
    before = told(tmp_path / "home", "alone")
    refused = restart(evergreen, tmp_path, spec)
    assert refused.exit_code == 2
    said = " ".join(refused.stderr.split())
    assert "alone: a guard stopped it: response_len" in said
    assert "evergreen resume alone" in said
    assert told(tmp_path / "home", "alone") == before
    assert evergreen("resume", "alone", "--home", tmp_path / "home", "--until-step", "3").exit_code == 75
    assert restart(evergreen, tmp_path, spec).exit_code == 75, "a person went on with it"


def test_what_may_change_on_resume_follows_the_spec(tmp_path: Path, evergreen: Evergreen) -> None:
    assert restart(evergreen, tmp_path, alone(), "--until-step", "2").exit_code == 75
    changed = alone(stages=3) | {"checkpoint": {"every_steps": 1}, "tracker": "tensorboard"}
    assert restart(evergreen, tmp_path, changed).exit_code == 0
    story = told(tmp_path / "home", "alone")
    assert (story["num_boundaries"], story["num_steps"]) == (4, 9)
    kept = yaml.safe_load((tmp_path / "home" / "alone" / "spec.yaml").read_text())
    assert (kept["checkpoint"]["every_steps"], kept["tracker"]["type"]) == (1, "tensorboard")


@pytest.mark.parametrize(
    "now",
    ["url: postgresql://eva:other@db/x", "url: postgresql://eva@db/x, password_file: ~/pw", "url: postgresql://db/x"],
)
def test_who_logs_in_to_the_ledger_may_be_another_at_every_start(now: str) -> None:
    before = load_spec(alone(), ["ledger={url: postgresql://eva:hush@db/x}"])
    assert changes_on_resume(before, load_spec(alone(), [f"ledger={{{now}}}"])) == ([], None)


def test_another_ledger_is_refused_without_telling_who_logs_in(tmp_path: Path, evergreen: Evergreen) -> None:
    assert restart(evergreen, tmp_path, alone(), "--until-step", "2").exit_code == 75
    refused = restart(evergreen, tmp_path, alone(), "--set", "ledger.url=postgresql://me:hush@db/x")
    assert refused.exit_code == 2
    said = " ".join(refused.stderr.split())
    assert "ledger.url is null there, and" in said
    assert "db/x" in said
    assert "hush" not in said


def test_another_spec_of_the_same_name_is_refused_and_the_run_stays_as_it_is(
    tmp_path: Path, evergreen: Evergreen
) -> None:
    assert restart(evergreen, tmp_path, alone(), "--until-step", "2").exit_code == 75
    refused = restart(evergreen, tmp_path, alone() | {"learner": {"lr": 0.1, "warmup": 2, "updates": 2}})
    assert refused.exit_code == 2
    said = " ".join(refused.stderr.split())
    assert "there is a run alone of another spec: learner.lr is 0.003 there, and 0.1 here" in said
    assert "Give this one another `name`, or go on with that one: evergreen resume alone" in said
    assert told(tmp_path / "home", "alone")["num_steps"] == 2
    assert names(evergreen, tmp_path / "home") == ["alone"]


def test_without_the_option_the_same_spec_is_another_run(tmp_path: Path, evergreen: Evergreen) -> None:
    spec = written(tmp_path, alone())
    for _ in range(2):
        assert evergreen("run", spec, "--home", tmp_path / "home").exit_code == 0
    assert names(evergreen, tmp_path / "home") == ["alone", "alone-2"]


def test_given_twice_in_a_moment_it_is_one_run(
    tmp_path: Path, evergreen: Evergreen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both found no run, and the second made another, which nothing went on with."""
    home, lay_foundation = tmp_path / "home", api.lay_foundation

    def overtaken(*given: Any, **options: Any) -> Any:
        monkeypatch.undo()
        orchestrator.run(alone(), home=home, until_step=2)
        return lay_foundation(*given, **options)

    monkeypatch.setattr(api, "lay_foundation", overtaken)
    assert restart(evergreen, tmp_path, alone()).exit_code == 0
    assert names(evergreen, home) == ["alone"]
    orchestrator.run({**alone(), "name": "whole"}, home=home)
    assert ending(home, "alone") == ending(home, "whole")


def test_while_another_process_has_the_run_the_command_is_to_be_given_again(
    tmp_path: Path, evergreen: Evergreen
) -> None:
    """It ended as a mistake does, after which a scheduler never starts it again."""
    assert restart(evergreen, tmp_path, alone(), "--until-step", "2").exit_code == 75
    with run_lock(tmp_path / "home" / "alone"):
        busy = restart(evergreen, tmp_path, alone())
    assert busy.exit_code == 75
    assert "is in use by process" in busy.stderr
    assert restart(evergreen, tmp_path, alone()).exit_code == 0


@pytest.mark.parametrize("options", [["--resume-if-there"], []])
def test_what_was_killed_before_it_had_a_spec_is_begun_again_under_its_name(
    tmp_path: Path, evergreen: Evergreen, options: list[str]
) -> None:
    """Such a folder cost the name, and with the option each restart began another run."""
    (tmp_path / "home" / "alone").mkdir(parents=True)
    spec = written(tmp_path, alone())
    assert evergreen("run", spec, "--home", tmp_path / "home", "--until-step", "2", *options).exit_code == 75
    assert restart(evergreen, tmp_path, alone()).exit_code == 0
    assert names(evergreen, tmp_path / "home") == ["alone"]


def test_a_run_whose_folder_is_gone_is_not_begun_again_at_each_restart(tmp_path: Path, evergreen: Evergreen) -> None:
    assert restart(evergreen, tmp_path, alone(), "--until-step", "2").exit_code == 75
    shutil.rmtree(tmp_path / "home" / "alone")
    refused = restart(evergreen, tmp_path, alone())
    assert refused.exit_code == 2
    assert "the ledger has a run alone whose folder is not in" in " ".join(refused.stderr.split())
    assert names(evergreen, tmp_path / "home") == ["alone"]
