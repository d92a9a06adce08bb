"""A profile is what a policy did task by task; the file that it writes splits the environment in a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import orchestrator
from environments.slices.slice_file import read_slices
from orchestrator.cli import profile as verb
from store.identity import SLICES
from store.intervals import wilson
from tests.conftest import Evergreen
from tests.integration.test_slices import spec_of
from tests.orchestrator.specs import small, written

GUESS = ("examples.guess:create", "--set", "numbers=[3, 9]")


def profiled(evergreen: Evergreen, *words: object) -> Any:
    result = evergreen("profile", *words, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_pass_rates_of_single_tasks_come_with_intervals_and_slices(tmp_path: Path, evergreen: Evergreen) -> None:
    file = tmp_path / "slices.jsonl"
    words = (*GUESS, "--policy", "random", "--tasks", 120, "--samples", 6, "-o", file)
    (found,) = profiled(evergreen, *words)
    assert found["policy"] == "random"
    assert [one["name"] for one in found["categories"]] == ["3", "9"]
    three, nine = found["categories"]
    assert three["pass_rate"] > nine["pass_rate"] > 0
    assert three["low"] < three["pass_rate"] < three["high"]
    for task in found["tasks"]:
        assert task["samples"] == 6
        interval = wilson(task["correct"], 6)
        assert (task["low"], task["high"]) == (interval.low, interval.high)
        low, high = (int(part) / 100 for part in task["slice"].split("-")[1:])
        assert low <= task["correct"] / 6 <= high
    kept = read_slices(file)["guess"]
    assert {row.key: (row.correct, row.slice) for row in kept.rows} == {
        task["key"]: (task["correct"], task["slice"]) for task in found["tasks"]
    }
    assert {row.pool for row in kept.rows} == {"train", "anchor", "select"}, "none is for a study's end"
    profiled(evergreen, *words[:-1], tmp_path / "again.jsonl")
    profiled(evergreen, *words[:-1], tmp_path / "trained.jsonl", "--train-only")
    assert {row.pool for row in read_slices(tmp_path / "trained.jsonl")["guess"].rows} == {"train"}
    assert (tmp_path / "again.jsonl").read_bytes() == file.read_bytes(), "the same seed, the same file"


@pytest.mark.parametrize(("most", "unread", "said"), [(4, 6, "6 others were not read"), (10, 0, None)])
def test_how_many_tasks_were_not_read_is_said(
    tmp_path: Path, evergreen: Evergreen, most: int, unread: int, said: str | None
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"Say {word}.", "answer": word}) + "\n" for word in "abcdefghij"))
    options = ("reward=exact", "truth=answer", f"train={rows}")
    words = ("rows", *(word for one in options for word in ("--set", one)), "--policy", "random", "--tasks", most)
    (found,) = profiled(evergreen, *words, "-o", tmp_path / "some.jsonl")
    assert found["unread"] == unread
    printed = evergreen("profile", *words, "-o", tmp_path / "others.jsonl").stdout
    assert (said is None and "not read" not in printed) or str(said) in " ".join(printed.split())


def test_tasks_that_never_end_are_never_all_read(tmp_path: Path, evergreen: Evergreen) -> None:
    words = ("reasoning_gym", "--set", "dataset=gcd", "--policy", "random", "--tasks", 4, "--samples", 1)
    assert profiled(evergreen, *words, "-o", tmp_path / "some.jsonl")[0]["unread"] is None


def test_an_episode_has_the_turns_that_the_spec_gives_it(tmp_path: Path, evergreen: Evergreen) -> None:
    guess = {"type": "examples.guess:create", "numbers": [9], "episodes": {"max_turns": 1}}
    file = written(tmp_path, small(environments={"guess": guess}, warm_start=None))
    words = ("profile", file, "--policy", "random", "--tasks", 100, "--samples", 6, "--json", "-o")
    rates = [
        json.loads(evergreen(*words, tmp_path / f"{number}.jsonl", *more).stdout)[0]["categories"][0]["pass_rate"]
        for number, more in enumerate(((), ("--set", "environments.guess.episodes=null")))
    ]
    assert rates[0] == pytest.approx(1 / 9, abs=0.05)
    assert rates[1] > 0.15


def test_nothing_is_overwritten_and_what_contradicts_itself_is_refused(tmp_path: Path, evergreen: Evergreen) -> None:
    there, new = tmp_path / "there", tmp_path / "new"
    there.write_text("mine")
    for words, said in (
        (("--policy", "random", "-o", there), "is there already, and nothing was played"),
        (("--policy", "random", "--run", "x", "-o", new), "leave one out"),
        (("--policy", "random", "--by", "hidden", "-o", new), "is no model"),
        (("--policy", "random", "--text", "x", "-o", new), "`constant` answers, and the policy is random"),
        (("--text", "x", "-o", new), "the policy is the spec's own: say --policy constant with it"),
        (("--samples", 0, "-o", new), "--samples 1 or more"),
        (("-o", new), "a type alone has no policy"),
    ):
        result = evergreen("profile", *GUESS, *words)
        assert result.exit_code == 2, words
        assert said in " ".join(result.stderr.split())
    assert there.read_text() == "mine"
    assert not new.exists()


@pytest.mark.parametrize("file", ["missing/x.jsonl", "/proc/x.jsonl"])
def test_the_place_of_the_file_is_tried_before_anything_is_played(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evergreen: Evergreen
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verb, "_played_without", lambda *given: pytest.fail("played"))
    result = evergreen("profile", *GUESS, "--policy", "random", "-o", file)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "with -o" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_policys_profile_splits_the_environment_of_a_run(tmp_path: Path, evergreen: Evergreen) -> None:
    """By pass rate, then with the weights of the run by hidden states, whose tree a further run trains on."""
    home, file, tree = tmp_path / "home", tmp_path / "slices.jsonl", tmp_path / "tree.jsonl"
    plain = {**spec_of(tmp_path, None), "name": "plain"}
    path = written(tmp_path, plain)
    table = evergreen("profile", path, "--samples", 2, "--tasks", 60, "--home", home, "-o", file)
    assert table.exit_code == 0, table.stderr
    assert "`slices: slices.jsonl`" in table.stdout
    assert orchestrator.run(path, home=home).status == "finished"
    words = (path, "--run", "plain", "--home", home, "--by", "hidden_tree", "--count", 3, "--samples", 0)
    (found,) = profiled(evergreen, *words, "--tasks", 160, "-o", tree)
    assert found["policy"] == "plain at step 6"
    assert len(found["slices"]) > 1
    assert {task["samples"] for task in found["tasks"]} == {None}
    split = read_slices(tree)["only"]
    assert set(split.nodes) == set(split.names)
    after = written(tmp_path, spec_of(tmp_path, "tree.jsonl", "after"))
    assert orchestrator.run(after, home=home).status == "finished"
    kept = read_slices(home / "after" / SLICES)["only"]
    assert kept.digest == split.digest
    assert {row.pool for row in split.rows} == {"train", "anchor", "select", "final"}
    # a spec that is split already is profiled as its type gives it
    (again,) = profiled(evergreen, after, "--run", "plain", *words[3:], "--tasks", 160, "-o", tmp_path / "t2.jsonl")
    assert [one["name"] for one in again["categories"]] == ["all"]


def test_a_run_trains_on_clusters_of_hidden_states(tmp_path: Path, evergreen: Evergreen) -> None:
    """Of the policy as the run would begin."""
    file, plain = tmp_path / "hidden.jsonl", written(tmp_path, spec_of(tmp_path, None))
    words = (plain, "--by", "hidden", "--count", 3, "--samples", 0, "--tasks", 160, "--home", tmp_path, "-o", file)
    (found,) = profiled(evergreen, *words)
    assert len(found["slices"]) == 3
    assert {task["samples"] for task in found["tasks"]} == {None}
    split = read_slices(file)["only"]
    assert split.method == "hidden"
    assert not split.nodes, "clusters beside each other, no tree"
    assert {row.slice for row in split.rows} == set(split.names)
    assert len({row.key for row in split.rows}) == 160
    after = written(tmp_path, spec_of(tmp_path, "hidden.jsonl", "after"))
    assert orchestrator.run(after, home=tmp_path, until_step=1).status == "stopped"
    assert read_slices(tmp_path / "after" / SLICES)["only"].digest == split.digest
