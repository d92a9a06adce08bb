"""A user's own plug-in of every kind, each in a file beside the spec: checked, listed, run, resumed, forked as ours."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import orchestrator
from orchestrator import registry
from orchestrator.cli import main
from orchestrator.errors import SpecError
from orchestrator.runs.catalog import opened
from orchestrator.simulation.candidates import read_file
from tests.conftest import Evergreen
from tests.integration.processes import Process
from tests.integration.runs import ending, told
from tests.orchestrator.specs import alone, written

FILES = {
    "bandit.py": '''"""Prefers the first arm."""
from orchestrator.bandits.uniform import Uniform

SOURCE = "here"

class Mine(Uniform):
    """Uniform, under another name."""

def create(arms, rng, tilt, signal="raw"):
    """Uniform with a tilt that does nothing."""
    assert 0 <= tilt <= 1
    return Mine(arms, rng, floor=tilt)
''',
    "scheduler.py": '''from orchestrator.schedulers.round_robin import Config, create as ours

def create(arms, rng, reward="advantage"):
    """Every environment in turn."""
    return ours(Config(), arms, rng)
''',
    "selection.py": '''import numpy as np
from orchestrator.selections.contracts import Selection

class Last(Selection):
    """The last tasks first."""
    def draw(self, n):
        return np.arange(self.num_tasks)[::-1][:n]
    def learn(self, tried):
        pass

def create(num_tasks, rng, numbers, tasks):
    """The last tasks first."""
    return Last(num_tasks, rng)
''',
    "teacher.py": '''from orchestrator.teachers.random import Config, create as ours

def create(num_dims, rng, width=1.0):
    """Anywhere."""
    return ours(Config(), num_dims, rng)
''',
    "stop_rule.py": '''from orchestrator.stop_rules.contracts import StopRule

class Never(StopRule):
    """Never stops."""
    def verdict(self, evals):
        return None

def create(patience):
    """Never stops."""
    return Never()
''',
    "lib/environment.py": '''from tests.environments.fakes import Fake
from beside import CATEGORY

def create(name, size=40):
    """A fake."""
    return Fake(name, "learnable", (CATEGORY,), (), None, size, in_process=False)
''',
    "lib/beside.py": "CATEGORY = 'easy'\n",
    "reward.py": '''def generous(attempt):
    """Half a point for whatever."""
    return 0.5
''',
    "sampler.py": '''from policies.samplers.transformers import Config, create as ours

def create(policy, max_tokens, temperature=1.0):
    """The sampler of transformers."""
    return ours(Config(max_tokens=max_tokens, temperature=temperature), policy=policy)
''',
    "measurement.py": '''from dataclasses import dataclass
from orchestrator.measurements.contracts import Findings, Measurement
from store.records import CellRecord

@dataclass(frozen=True)
class Count(Measurement):
    """How many tasks are held out."""
    name = "count"
    tasks: dict
    def is_due(self, at):
        return True
    def of(self, environments):
        return Count({one: self.tasks[one] for one in environments})
    def run(self, player, at, watch, tell):
        return Findings({}, [CellRecord(one, None, "own_num_tasks", n, None, n, 1) for one, n in self.tasks.items()])

def create(environments, held_out, pool="anchor"):
    """How many tasks are held out."""
    return Count({one: sum(map(len, by.values())) for one, by in held_out[pool].items()})
''',
    "intervention.py": '''from policies.interventions.contracts import Change, Intervention

class Scale(Intervention):
    """Makes every weight smaller."""
    def __init__(self, factor):
        self.factor = factor
    def apply(self, subject):
        with subject.optimizer.whole_weights() as weights:
            for weight in weights.values():
                weight.mul_(self.factor)
        return Change(f"times {self.factor:g}")

def create(factor):
    """Makes every weight smaller."""
    return Scale(factor)
''',
    "part.py": '''"""A weight against the mismatch that is the ratio itself."""
from policies.objectives.mismatch_weights.tis import *
from policies.objectives.mismatch_weights import tis as _tis

SOURCE = "here"
Config, create = _tis.Config, _tis.create
globals().update({name: value for name, value in vars(_tis).items() if not name.startswith("_")})
SOURCE = "here"
''',
    "rows.jsonl": "".join(f'{{"prompt": "say {i}", "answer": "{i}"}}\n' for i in range(80)),
    # what would be in the way of ours if files were imported by their names
    "environments/__init__.py": "raise AssertionError('the user`s environments')\n",
    "store.py": "raise AssertionError('the user`s store')\n",
    "statistics.py": "raise AssertionError('the user`s statistics')\n",
}


def whole() -> dict[str, Any]:
    """A spec in which every kind is the user's own."""
    spec = alone("own", stages=2, steps=2)
    spec["environments"] = {
        "one": {"type": "./lib/environment.py:create", "size": 30},
        "rows": {"type": "rows", "train": "rows.jsonl", "reward": "./reward.py:generous"},
        "box": {"type": "reasoning_gym", "dataset": "gcd", "parameters": {"max_value": [9, 40]}},
    }
    spec["curriculum"] = {
        "stages": 2,
        "scheduler": {"type": "./scheduler.py:create", "reward": "gain"},
        "bandit": {"type": "./bandit.py:create", "tilt": 0.5, "signal": "variance"},
        "selection": {"type": "./selection.py:create", "tasks": 30},
        "teacher": {"type": "./teacher.py:create", "width": 0.5},
        "boundary": {"interventions": [{"type": "./intervention.py:create", "factor": 0.9, "when": "every 1 stages"}]},
        "stage": {"steps": 11, "min_steps": 1, "stop": [{"type": "./stop_rule.py:create", "patience": 3}]},
    }
    spec["sampler"] = {"type": "./sampler.py:create", "max_tokens": 3}
    spec["objective"] = {"preset": "rloo", "mismatch": ["./part.py:create"], "controller": "none"}
    spec["measure"] = [{"type": "./measurement.py:create", "pool": "anchor"}]
    del spec["resources"]
    return spec


def evergreen_in(folder: Path, *words: object) -> None:
    """`evergreen WORDS...` with another working directory."""
    os.chdir(folder)
    sys.argv = ["evergreen", *map(str, words)]
    main()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "mine"


@pytest.mark.slow
def test_a_run_with_everything_of_the_users_own_is_resumed_in_another_process_and_forked(
    folder: Path, tmp_path: Path, evergreen: Evergreen
) -> None:
    spec, home = written(folder, whole()), tmp_path / "home"
    checked = evergreen("validate", spec, "--home", home)
    assert checked.exit_code == 0, checked.stderr
    assert orchestrator.run(spec, home=home).status == "finished"
    kept = yaml.safe_load((home / "own" / "spec.yaml").read_text())
    assert kept["curriculum"]["bandit"] == whole()["curriculum"]["bandit"], "no option that was not given"
    assert kept["objective"]["mismatch"] == ["./part.py:create"]
    assert kept["measure"]["of"] == whole()["measure"]
    assert kept["curriculum"]["boundary"]["interventions"] == whole()["curriculum"]["boundary"]["interventions"]
    with opened(home, "own") as (_, ledger):
        (done,) = ledger.reading.interventions("own")
    assert (done.after_stage, done.kind, done.params) == (1, "./intervention.py:create", {"factor": 0.9})

    # the same run, stopped in the middle and continued by a process that starts elsewhere
    orchestrator.run(spec, ["name=part", "curriculum.stages=1"], home=home)
    resumed = Process(tmp_path, tmp_path, "resume", "part", "--stages", 2, "--home", home, call=evergreen_in)
    assert resumed.end()[0] == 0, resumed.output.read_text()
    assert ending(home, "part").weights == ending(home, "own").weights

    measured = orchestrator.open_home(home).run("own").matrix("own_num_tasks")
    assert set(measured["environment"]) == {"one", "rows", "box"}
    joining = "environments.more={type: codebook, categories: {two: 2}, keys: 5}"
    forked = evergreen("fork", "own", "--stage", "1", "--set", "name=again", "--set", joining, "--home", home)
    assert forked.exit_code == 0, forked.stderr
    measured = orchestrator.open_home(home).run("again").matrix("own_num_tasks")
    assert set(measured["environment"]) == {"one", "rows", "box", "more"}


def test_whichever_file_was_rewritten_is_told_by_resume_and_fork(folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    orchestrator.run(written(folder, whole()), home=home, until_step=11)
    orchestrator.resume("own", home=home, until_step=11)
    assert not [event for event in told(home, "own")["events"] if event["kind"] == "not bitwise"]
    files = [name for name, text in FILES.items() if "def create(" in text or name == "part.py"]
    for name in files:
        (folder / name).write_text(f"{FILES[name]}# rewritten\n")
    orchestrator.resume("own", home=home, until_step=12)
    texts = " ".join(event["text"] for event in told(home, "own")["events"] if event["kind"] == "not bitwise")
    named = ["environment one", *(f"./{name.removesuffix('.py')}" for name in files if "/" not in name)]
    assert [name for name in named if name not in texts] == []
    orchestrator.fork("own", 1, home=home, until_step=11)
    assert "the code of ./bandit.py is not what it was for own" in str(told(home, "own-fork")["events"])


@pytest.mark.parametrize(
    ("place", "options", "message"),
    [
        ("curriculum.bandit", {"type": "./bandit.py:create", "tilted": 1}, "cannot be called as create("),
        (
            "curriculum.scheduler",
            {"type": "./scheduler.py:create", "order": []},
            "cannot be called as create(",
        ),
        ("curriculum.selection", {"type": "./selection.py:create"}, "missing a required argument: 'tasks'"),
        ("curriculum.teacher", {"type": "./teacher.py:create", "wide": 1}, "cannot be called as create("),
        (
            "curriculum.stage.stop",
            {"type": "./stop_rule.py:create"},
            "missing a required argument: 'patience'",
        ),
        (
            "environments.one",
            {"type": "./lib/environment.py:create", "big": 1},
            "cannot take the options ['big']",
        ),
        ("environments.rows.reward", "./reward.py:missing", "has no function 'missing'"),
        (
            "sampler",
            {"type": "./sampler.py:create", "max_tokens": 3, "top": 1},
            "cannot be called as create(",
        ),
        ("measure", {"type": "./measurement.py:create", "of": 1}, "cannot be called as create("),
        (
            "curriculum.boundary.interventions",
            {"type": "./intervention.py:create", "fact": 1},
            "cannot be called as create(",
        ),
        ("objective.tis_capp", 2, "did you mean `tis_cap`?"),
        ("objective.mismatch", ["./gone.py:create"], "there is no file"),
        ("curriculum.bandit", "./gone.py:create", "there is no file"),
        ("environments.one", "./gone.py:create", "there is no file"),
    ],
)
def test_a_wrong_option_of_any_kind_is_refused_by_validate(
    folder: Path, tmp_path: Path, evergreen: Evergreen, place: str, options: Any, message: str
) -> None:
    spec = written(folder, whole())
    done = evergreen("validate", spec, "--set", f"{place}={json.dumps(options)}", "--home", tmp_path)
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    "kind", ["bandits", "schedulers", "selections", "teachers", "stop_rules", "samplers", "interventions"]
)
def test_a_users_own_is_described_as_ours_are(
    folder: Path, evergreen: Evergreen, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(folder)
    name = f"./{kind.removesuffix('s')}.py:create"
    told = json.loads(evergreen("methods", kind, name, "--json").stdout)
    assert told["name"] == name
    assert told["text"]
    assert not {"arms", "rng", "policy"} & set(told["options"])


def test_two_files_of_one_name_in_two_folders_are_two(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "part.py").write_text(FILES["part.py"].replace('"here"', '"there"'))
    specs = []
    for place in (folder, other):
        spec = alone("one", objective=None) | {"objective": {"preset": "rloo", "mismatch": ["./part.py:create"]}}
        del spec["resources"]
        specs.append(orchestrator.load_spec(written(place, spec)))
    first, second = (spec.objective.mismatch[0] for spec in specs)
    assert (first, second) == (f"{folder}/part.py:create", f"{other}/part.py:create")
    assert all(spec.kept()["objective"]["mismatch"] == ["./part.py:create"] for spec in specs)
    assert orchestrator.load_spec(specs[0], ["name=two"]).objective.mismatch == specs[0].objective.mismatch


def test_a_file_above_the_spec_and_one_by_its_whole_path(folder: Path) -> None:
    (folder / "specs").mkdir()
    for name in ("../bandit.py:create", f"{folder}/bandit.py:create"):
        spec = alone("up") | {"curriculum": {"stages": 1, "bandit": {"type": name, "tilt": 0}}}
        del spec["resources"]
        loaded = orchestrator.load_spec(written(folder / "specs", spec))
        assert orchestrator.load_spec(loaded.kept()).curriculum.bandit == loaded.curriculum.bandit


def test_a_signal_that_no_bandit_has_is_refused_where_it_is_read(folder: Path) -> None:
    spec = whole()
    spec["curriculum"]["bandit"]["signal"] = "louder"
    with pytest.raises(SpecError, match=r"curriculum.bandit.signal: input should be 'raw'"):
        orchestrator.load_spec(written(folder, spec))


def test_a_file_is_found_from_where_it_is_named_by_check_env_and_by_a_file_of_bandits(
    folder: Path, tmp_path: Path, evergreen: Evergreen, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "bandits.yaml").write_text("mine: {type: ./bandit.py:create, tilt: 0.5}\n")
    monkeypatch.chdir(tmp_path)
    (named,) = read_file(folder / "bandits.yaml")
    made = registry.create("bandits", named[1].config, arms=["a", "b"], rng=np.random.default_rng(0))
    assert type(made).__name__ == "Mine"
    monkeypatch.chdir(folder)
    checked = evergreen("check-env", "./lib/environment.py:create", "--tasks", "2", "--json")
    assert json.loads(checked.stdout)[0]["environment"] == "environment"
