"""What `ls` makes of many runs: a line each, names whole, whatever the width."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.run_list import age, lines
from tests.conftest import Evergreen

BEGUN = "2026-11-21T09:08:07.123+00:00"


def study(num_runs: int, **same: Any) -> list[dict[str, Any]]:
    """Runs of a study of two objectives and five bandits."""
    runs = []
    for number in range(num_runs):
        objective, bandit = ("repo_r", "grpo")[number % 2], f"bandit_{number % 5}"
        facts = {"status": "finished", "num_steps": 400, "planned_steps": 400, "accuracy": 0.4, "entropy_left": 0.23}
        chosen = {"objective": objective, "bandit": bandit, "scheduler": None, "model": "Qwen/Qwen2.5-0.5B-Instruct"}
        name = f"puzzles.objective-{objective}-bandit-{bandit}.s{number // 10}"
        runs.append({"name": name, **facts, **chosen, "seed": number // 10, "created_at": BEGUN, **same})
    return runs


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_a_run_is_one_line_and_its_name_is_whole_at_any_width(width: int) -> None:
    runs = study(60)
    head, *listed = [line.plain for line in lines(runs, width)]
    assert [line.split()[0] for line in listed] == [run["name"] for run in runs]
    assert max(map(len, [head, *listed])) <= max(width, max(len(run["name"]) for run in runs))


def test_the_columns_that_matter_least_go_first_and_of_methods_those_that_are_alike() -> None:
    def columns(width: int, runs: list[dict[str, Any]]) -> list[str]:
        return lines(runs, width)[0].plain.split()

    every = [
        "run",
        "status",
        "steps",
        "accuracy",
        "entropy",
        "objective",
        "bandit",
        "scheduler",
        "model",
        "seed",
        "age",
    ]
    assert columns(200, study(60)) == every
    assert columns(120, study(60)) == [one for one in every if one not in ("model", "scheduler")]
    assert columns(80, study(60)) == ["run", "status", "steps", "accuracy"]
    assert columns(100, study(60, objective="grpo")) == [*every[:5], "seed", "age"]


def test_a_pipe_gets_everything_in_full_and_no_cell_has_a_blank() -> None:
    (odd,) = study(1, objective="./my own parts.py:create", accuracy=None, model="x" * 300)
    head, line = [line.plain for line in lines([odd], None)]
    cells = dict(zip(head.split(), line.split(), strict=True))
    assert (cells["run"], cells["objective"], cells["model"]) == (odd["name"], "./my_own_parts.py:create", "x" * 300)
    assert (cells["steps"], cells["accuracy"], cells["entropy"]) == ("400/400", "-", "23%")
    assert cells["begun"] == "2026-11-21T09:08:07Z"


def test_an_age_is_told_in_its_largest_unit() -> None:
    assert age(BEGUN).endswith(" d") or age(BEGUN).split()[1] in ("s", "min", "h")


def test_a_glance_agrees_with_the_story(finished: Path, evergreen: Evergreen) -> None:
    listed = {run["name"]: run for run in json.loads(evergreen("ls", "--json", "--home", finished).stdout)}
    for name in ("small", "flat"):
        story = json.loads(evergreen("show", name, "--json", "--home", finished).stdout)
        accuracies = list(story["matrices"]["pass_1"]["3"].values())
        assert listed[name]["accuracy"] == pytest.approx(sum(accuracies) / len(accuracies))
        assert listed[name]["entropy_left"] == pytest.approx(story["carry_over"]["entropy_left"])
        assert listed[name]["planned_steps"] == story["planned_steps"] == 9


def test_filters_choose_and_say_how_many_they_hide(finished: Path, evergreen: Evergreen) -> None:
    def names(*words: object) -> list[str]:
        result = evergreen("ls", "--home", finished, *words)
        assert result.exit_code == 0, result.stderr
        return [line.split()[0] for line in result.stdout.splitlines()[1:]]

    num = len(names())
    assert names("--status", "stopped,finished,", "--status", "failed")[-2:] == ["flat", "small"]
    newest = evergreen("ls", "--home", finished, "-n", 1)
    assert newest.stdout.splitlines()[1].split()[0] == names()[0]
    assert newest.stderr == f"1 of {num} runs\n"
    none = evergreen("ls", "--home", finished, "--status", "failed")
    assert (none.stdout, none.stderr) == ("", f"0 of {num} runs\n")


def test_what_no_run_ever_is_and_no_study_is_refused(finished: Path, evergreen: Evergreen) -> None:
    wrong = evergreen("ls", "--home", finished, "--status", "done,finished")
    assert wrong.exit_code == 2
    assert "no run is ever done; there are: running, stopped, finished, failed, killed" in wrong.stderr
    assert (
        "no run is of a study 'trial'; there are: none"
        in evergreen("ls", "--home", finished, "--study", "trial").stderr
    )
