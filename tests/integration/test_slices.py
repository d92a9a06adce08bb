"""A run keeps its slices: what goes on, or comes from it, has the same ones, whatever became of the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import orchestrator
from environments.slices.slice_file import read_slices
from orchestrator.errors import SpecError
from orchestrator.runs.removal import OWN
from orchestrator.spec import load_spec
from store.identity import SLICES
from tests.conftest import Evergreen
from tests.integration.runs import component, ending
from tests.orchestrator.specs import Raw, alone, written


def spec_of(folder: Path, slices: object, name: str = "sliced") -> Raw:
    """Train on rows of two kinds that no column tells apart."""
    lines = [{"prompt": f"{'ab'[k % 2]} {k}", "answer": f"{k % 10}"} for k in range(160)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    own = {"type": "rows", "train": "rows.jsonl", "reward": "exact", "slices": slices, "max_tokens": 2}
    beside = {"checkpoint": {"every_steps": 1}, "resources": {"search_path": str(folder)}}
    return {**alone(name), "environments": {"only": own}, **beside}


@pytest.mark.slow
def test_a_resumed_and_a_forked_run_have_the_slices_that_it_began_with(tmp_path: Path) -> None:
    home, spec = tmp_path / "home", spec_of(tmp_path, {"by": "tree", "count": 3})
    first = orchestrator.run(written(tmp_path, spec), home=home)
    made = home / "sliced" / SLICES
    assert first.status == "finished"
    assert len(read_slices(made)["only"].names) == 3
    # the same assignment, from a file that is gone before the run goes on
    file = tmp_path / "given.jsonl"
    file.write_text(made.read_text())
    path = written(tmp_path, spec_of(tmp_path, "given.jsonl", "given"))
    stopped = orchestrator.run(path, home=home, until_step=2)
    assert stopped.status == "stopped"
    kept = (home / "given" / SLICES).read_text()
    file.unlink()
    assert orchestrator.resume("given", home=home).status == "finished"
    assert (home / "given" / SLICES).read_text() == kept
    assert orchestrator.fork("given", 1, home=home).status == "finished"
    assert (home / "given-fork" / SLICES).read_text() == kept
    assert SLICES in OWN, "rm removes it"


def test_the_run_that_was_stopped_is_the_run_that_was_not(tmp_path: Path) -> None:
    home, path = tmp_path / "home", written(tmp_path, spec_of(tmp_path, {"by": "length", "count": 3}))
    whole = orchestrator.run(path, home=home)
    parts = orchestrator.run(path, home=home, until_step=1)
    assert orchestrator.resume(parts.name, home=home).status == "finished"
    assert ending(home, whole.name) == ending(home, parts.name)


def test_a_run_that_was_resumed_with_other_data_has_its_tasks_again_once_the_data_is_back(
    tmp_path: Path, evergreen: Evergreen
) -> None:
    """A resume that is refused, for want of a slice, leaves the copy alone; one with fewer tasks names all of them."""
    home, path, rows = (
        tmp_path / "home",
        written(tmp_path, spec_of(tmp_path, {"by": "length"})),
        tmp_path / "rows.jsonl",
    )
    lines = rows.read_text().splitlines(keepends=True)
    assert orchestrator.run(path, home=home, until_step=1).status == "stopped"
    copy = home / "sliced" / SLICES
    kept = copy.read_text()
    rows.write_text("".join(lines[:100]))
    refused = evergreen("resume", "sliced", "--home", home)
    assert "no category 'length-3-upto-5' to train on any more" in " ".join(refused.stderr.split())
    assert copy.read_text() == kept
    rows.write_text("".join(lines[:140]))
    assert orchestrator.resume("sliced", home=home, until_step=2).status == "stopped"
    assert len(read_slices(copy)["only"].missing) == 20
    rows.write_text("".join(lines))
    assert orchestrator.resume("sliced", home=home).status == "finished"
    assert copy.read_text() == kept


@pytest.mark.parametrize("how", ["cut in a line", "cut at a line", "emptied", "moved to another slice"])
def test_a_damaged_copy_of_the_slices_is_told_with_what_mends_it(
    tmp_path: Path, evergreen: Evergreen, how: str
) -> None:
    home, path = tmp_path / "home", written(tmp_path, spec_of(tmp_path, {"by": "length", "count": 3}))
    assert orchestrator.run(path, home=home, until_step=1).status == "stopped"
    copy = home / "sliced" / SLICES
    kept = copy.read_text()
    lines = kept.splitlines(keepends=True)
    moved = lines[1].replace("length-1-", "length-2-")
    damaged = {"cut in a line": kept[:-9], "cut at a line": "".join(lines[:-9]), "emptied": ""}
    copy.write_text(damaged.get(how, "".join([lines[0], moved, *lines[2:]])))
    said = "it is the run's own copy of its slices: delete it, and `resume` makes them again from its data or file"
    assert said in " ".join(evergreen("doctor", "sliced", "--home", home).stdout.split())
    refused = evergreen("resume", "sliced", "--home", home)
    assert refused.exit_code == 2
    assert said in " ".join(refused.stderr.split())
    copy.unlink()
    assert orchestrator.resume("sliced", home=home).status == "finished"
    assert copy.read_text() == kept


@pytest.mark.parametrize(
    ("slices", "said"),
    [
        ({"by": "lengths"}, "environments.only.slices.by"),
        ({"by": "column"}, "`by: column` needs `column`"),
        ({"by": "length", "cuont": 3}, "cuont"),
    ],
)
def test_a_mistake_is_told_with_its_place_before_anything_runs(tmp_path: Path, slices: object, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        load_spec(written(tmp_path, spec_of(tmp_path, slices)))


def test_a_slice_that_the_policy_cannot_read_is_not_trained_on(tmp_path: Path, evergreen: Evergreen) -> None:
    """A quarter of the rows is too long: without slices they are left out, with slices that slice is."""
    spec = spec_of(tmp_path, {"by": "length"}, "long")
    lines = [{"prompt": "x" * (1 + k % 4 + 200 * (k % 4 == 3)) + f" {k:03}", "answer": "1"} for k in range(160)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    spec["environments"]["only"]["max_prompt_tokens"] = 60
    home, path, slice_ = tmp_path / "home", written(tmp_path, spec), "length-4-upto-208"
    said = f"only: slices without a task to train on that the policy can read, not trained on: {slice_}"
    told = " ".join(evergreen("validate", path, "--home", home).stdout.split())
    assert said in told
    assert f"{slice_} (held out only)" in told
    assert orchestrator.run(path, home=home, until_step=1).status == "stopped"
    assert orchestrator.resume("long", home=home).status == "finished"
    assert said in [event["text"] for event in json.loads(shown(evergreen, home, "--events"))]
    assert slice_ in read_slices(home / "long" / SLICES)["only"].names, "the assignment is as it was"
    kept = json.loads(shown(evergreen, home, "--samples", "only"))
    assert {sample["category"] for sample in kept} <= {"length-1-upto-5", "length-2-upto-6", "length-3-upto-7"}
    spec["environments"]["only"]["max_prompt_tokens"] = 3
    refused = evergreen("validate", written(tmp_path, spec), "--home", home).stderr
    assert "is left to train on. What the policy cannot read of only: the prompt is longer than 3 tokens" in refused


def shown(evergreen: Evergreen, home: Path, *words: object) -> str:
    result = evergreen("show", "long", *words, "--json", "--home", home)
    assert result.exit_code == 0, result.stderr
    return str(result.stdout)


@pytest.mark.parametrize("mode", ["staged", "flat"])
def test_a_bandit_goes_down_the_tree_of_a_run(tmp_path: Path, mode: str) -> None:
    """Its state knows the way to every slice, also where one bandit chooses among all environments."""
    bandit = {"type": "beta_thompson_tree", "signal": "raw"}
    curriculum = {"mode": mode, "stages": 2, "bandit": bandit, "stage": {"steps": 3}}
    spec = {**spec_of(tmp_path, {"by": "tree", "count": 3}), "curriculum": curriculum}
    home = tmp_path / "home"
    assert orchestrator.run(written(tmp_path, spec), home=home, until_step=4).status == "stopped"
    assert orchestrator.resume("sliced", home=home).status == "finished"
    nodes = read_slices(home / "sliced" / SLICES)["only"].nodes
    prefix = "" if mode == "staged" else "only/"
    folders = [] if mode == "staged" else ["only"]
    ways = next(iter(component(home, "sliced", "choice")["bandits"].values()))["ways"]
    assert ways == {f"{prefix}{name}": [*folders, *map(str, way)] for name, way in nodes.items()}
