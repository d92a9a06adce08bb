"""`run --resume-if-there`: one command that begins a run and goes on with it, for schedulers that start it again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orchestrator
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


def test_what_may_change_on_resume_follows_the_spec(tmp_path: Path, evergreen: Evergreen) -> None:
    assert restart(evergreen, tmp_path, alone(), "--until-step", "2").exit_code == 75
    changed = alone(stages=3) | {"checkpoint": {"every_steps": 1}}
    assert restart(evergreen, tmp_path, changed).exit_code == 0
    story = told(tmp_path / "home", "alone")
    assert (story["num_boundaries"], story["num_steps"]) == (4, 9)
    assert "every_steps: 1" in (tmp_path / "home" / "alone" / "spec.yaml").read_text()


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
