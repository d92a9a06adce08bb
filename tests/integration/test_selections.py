"""Runs whose tasks are chosen by a selection: it learns on the way, and interrupting changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from environments import EnvironmentFault
from orchestrator.errors import SpecError
from orchestrator.runs.api import fork, resume, run
from orchestrator.runs.catalog import opened
from orchestrator.spec.load import load_spec
from tests.integration.runs import At, Killed, component, ending, kill, told
from tests.orchestrator.specs import alone, flat, small
from tests.shares import share

HERE = "scoring.isolation=none"


def staged(selection: Any) -> dict[str, Any]:
    return {
        "stages": 3,
        "scheduler": "uniform",
        "stage": {"steps": 3, "replay": 0.25},
        "selection": selection,
    }


SPECS = {
    "mopps": small("mopps", curriculum=staged({"type": "mopps", "tasks": 40, "candidates": 3})),
    "ahead": small(
        "ahead",
        curriculum=staged({"type": "plr", "tasks": 40, "buffer": 12}),
        sampler={"max_tokens": 3, "ahead": 1},
    ),
    "flat": flat(
        "flat",
        curriculum={
            "mode": "flat",
            "stages": 3,
            "stage": {"steps": 3},
            "selection": {"type": "pools", "tasks": 40},
        },
    ),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("selections")
    for spec in SPECS.values():
        assert run(spec, [HERE], home=home).status == "finished"
    return home


@pytest.mark.parametrize("name", SPECS)
def test_the_selections_hear_how_their_tasks_went(home: Path, name: str) -> None:
    tasks = component(home, name, "tasks")
    assert set(tasks) == {"numbers/10", "numbers/30", "book/2", "book/4", "noise/easy", "noise/hard"}
    kind = "plr" if name == "ahead" else "pools" if name == "flat" else "mopps"
    assert {saved["type"] for saved in tasks.values()} == {kind}
    heard = [
        saved["selection"]["seen"]["at"] if kind == "plr" else saved["selection"]["tried"] for saved in tasks.values()
    ]
    assert sum(map(len, heard)) >= 12
    assert not any(saved["awaited"] for saved in tasks.values()), "every group was scored and told"


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
def test_a_run_stopped_after_every_step_equals_the_uninterrupted_one(home: Path, name: str) -> None:
    outcome = run(SPECS[name], [f"name={name}-steps", HERE], home=home, until_step=1)
    for step in range(2, 10):
        assert outcome.status == "stopped"
        outcome = resume(outcome.name, home=home, until_step=step)
    assert resume(outcome.name, home=home).status == "finished"
    assert ending(home, outcome.name) == ending(home, name)


@pytest.mark.parametrize(("name", "moment"), share([("ahead", 6), ("mopps", 3), ("flat", 9)], 1))
def test_a_run_killed_at_any_moment_equals_the_uninterrupted_one(home: Path, name: str, moment: int) -> None:
    killed = f"{name}-killed"
    with pytest.raises(Killed):
        run(SPECS[name], [f"name={killed}", HERE], home=home, watcher=At(moment, kill))
    assert resume(killed, home=home).status == "finished"
    assert ending(home, killed) == ending(home, name)


def test_a_fork_may_change_the_selection_and_says_so(home: Path) -> None:
    forked = fork("mopps", 2, overrides=["name=other", "curriculum.selection=vcrl", HERE], home=home)
    assert forked.status == "finished"
    assert {saved["type"] for saved in component(home, "other", "tasks").values()} == {"vcrl"}
    assert "the choice of tasks" in json.dumps(told(home, "other")["events"])


def test_a_fork_that_chooses_among_other_tasks_begins_to_choose_anew(home: Path) -> None:
    fewer = "curriculum.selection={type: mopps, tasks: 6, candidates: 3}"
    assert fork("mopps", 2, overrides=["name=fewer", fewer, HERE], home=home).status == "finished"
    assert "the choice of tasks" in json.dumps(told(home, "fewer")["events"])


def rows(folder: Path, n: int = 90) -> Path:
    path = folder / "sums.jsonl"
    data = [{"prompt": f"{i} + 1", "answer": str(i + 1), "meta": {"length": i % 9}} for i in range(n)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in data))
    return path


def adarft(folder: Path, difficulty: str = "meta.length") -> dict[str, Any]:
    spec = alone("adarft")
    spec["environments"] = {"sums": {"type": "rows", "train": str(rows(folder)), "reward": "exact"}}
    spec["curriculum"] = {
        "stages": 2,
        "stage": {"steps": 3},
        "selection": {"type": "adarft", "difficulty": difficulty},
    }
    return spec


def test_rows_are_chosen_by_their_difficulty_and_a_resumed_run_goes_on(tmp_path: Path) -> None:
    assert run(adarft(tmp_path), home=tmp_path).status == "finished"
    chosen = component(tmp_path, "adarft", "tasks")["sums/all"]["selection"]
    assert (chosen["clock"], chosen["epoch"], len(chosen["played"])) == (6, 0, 12)
    assert run(adarft(tmp_path), ["name=again"], home=tmp_path, until_step=2).status == "stopped"
    assert resume("again", home=tmp_path).status == "finished"
    assert ending(tmp_path, "again") == ending(tmp_path, "adarft")


def test_a_fork_over_data_that_has_changed_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    run(adarft(tmp_path), home=tmp_path, until_step=4)
    rows(tmp_path, 60)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(EnvironmentFault, match="put its data"):
        fork("adarft", 1, overrides=["name=other"], home=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    with opened(tmp_path) as (_, ledger):
        assert [one.name for one in ledger.reading.runs()] == ["adarft"]


def test_what_cannot_be_chosen_by_is_refused_before_anything_begins(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"curriculum\.selection\.difficulty"):
        load_spec({**adarft(tmp_path), "curriculum": {"selection": "adarft"}})
    with pytest.raises(SpecError, match=r"curriculum\.selection\.difficulty: .* did you mean 'meta\.length'\?"):
        run(adarft(tmp_path, "meta.lenght"), home=tmp_path)
    assert not (tmp_path / "adarft").exists()
