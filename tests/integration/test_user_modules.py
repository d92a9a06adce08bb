"""Files and folders of a user that are called as packages of ours: ours are found, and so are the user's modules."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.shares import share

ROOT = Path(__file__).parents[2]
# As `pip install -e` does it: our packages are asked for after everything on the path (and before another checkout).
INSTALLED = f"""
import sys
from importlib.machinery import PathFinder

class Installed:
    def find_spec(self, name, path=None, target=None):
        return PathFinder.find_spec(name, [{str(ROOT)!r}]) if path is None else None

sys.meta_path.insert(sys.meta_path.index(PathFinder) + 1, Installed())
"""
MINE = """
from environments import Environment
from environments.near import FACTOR
from tests.environments.fakes import Fake

def create(name):
    return Fake(name, "hopeless", ("easy",), (), None, 10 * FACTOR, in_process=False)
"""
REWARD = "def generous(attempt):\n    return 1.0\n"
PART = '''
"""A shaper that does nothing."""
from policies.objectives.parts import PartOptions

SOURCE = "here"

class Config(PartOptions):
    """No options."""

def create(config):
    return None
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder: one that is a package, one that is none, a file, and a package that cannot be imported."""
    files = {
        "environments/mine.py": MINE,
        "environments/near.py": "FACTOR = 2\n",
        "environments/rows.py": "def create(name):\n    raise AssertionError\n",
        "environments/rewards/mine.py": REWARD,
        "store.py": "raise AssertionError('this is the user`s store')\n",
        "policies/__init__.py": "raise AssertionError('these are the user`s policies')\n",
        "policies/part.py": PART,
        "rows.jsonl": "".join(f'{{"prompt": "say {i}", "answer": "{i}"}}\n' for i in range(80)),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def python(folder: Path, *words: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    site = folder / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(INSTALLED)
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*([path] if path else []), site]))}
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False, timeout=120)


def evergreen(folder: Path, *words: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    return python(folder, "-c", "from orchestrator.cli import main; main()", *words, path=path)


def test_ours_are_found_where_the_user_has_folders_of_these_names(folder: Path) -> None:
    code = "import orchestrator, environments, policies, store.home; print(environments.__file__, store.home.__file__)"
    done = python(folder, "-c", code)
    assert done.stdout.split() == [str(ROOT / "environments/__init__.py"), str(ROOT / "store/home.py")], done.stderr


@pytest.mark.parametrize("where", share(["beside the spec", "working directory", "on the path"], 1))
def test_the_users_modules_are_found_and_scored_with_in_processes(folder: Path, tmp_path: Path, where: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    spec = {
        "environments": {
            "mine": {"type": "environments.mine:create"},
            "rows": {
                "type": "rows",
                "train": str(folder / "rows.jsonl"),
                "reward": "environments.rewards.mine:generous",
            },
        },
        "objective": {"preset": "rloo", "shaper": "policies.part", "controller": "none"},
    }
    place = elsewhere if where == "working directory" else folder
    (place / "spec.yaml").write_text(yaml.safe_dump(spec))
    script = f"""
import orchestrator
from environments import EnvironmentSource, ScoringJob, Scorer, ScoringOptions, make_task
spec = orchestrator.load_spec({str(place / "spec.yaml")!r})
place = spec.resources.search_path
sources = [EnvironmentSource(name, one.type, one.options, place) for name, one in spec.environments.items()]
made = {{source.name: source.create() for source in sources}}
with Scorer(sources, made, ScoringOptions(workers=1)) as scorer:
    jobs = [ScoringJob(one.task(one.categories[0].name, 0), ("x",)) for one in made.values()]
    print([turn.score.value for turn in scorer.turns(jobs)])
"""
    done = python(
        folder if where == "working directory" else elsewhere,
        "-c",
        script,
        path=folder if where == "on the path" else None,
    )
    assert done.stdout == "[0.0, 1.0]\n", done.stderr


def test_check_env_finds_both(folder: Path) -> None:
    done = evergreen(folder, "check-env", "environments.mine:create", "--tasks", "2")
    assert "cannot be built" not in done.stdout
    assert "mine  environments.mine:create, version 1\n  built in" in done.stdout, done.stderr


@pytest.mark.parametrize("type_", share(["environments.rows:create", "environments:create"], 1))
def test_a_module_that_both_have_is_refused_with_the_remedy(folder: Path, type_: str) -> None:
    (folder / "environments/__init__.py").write_text("def create(name):\n    raise AssertionError\n")
    done = evergreen(folder, "check-env", type_)
    assert done.returncode == 2
    theirs = "rows.py" if "rows" in type_ else "__init__.py"
    said = " ".join((done.stdout + done.stderr).split())
    assert f"it is found in {folder}/environments/{theirs} and in {ROOT}/environments/{theirs}" in said
    assert "rename yours" in said


def test_another_package_that_was_imported_before_is_told(folder: Path) -> None:
    (folder / "environments/__init__.py").touch()
    done = python(folder, "-c", "import environments.near, orchestrator")
    assert f"'environments' was imported from {folder}/environments" in done.stderr
    assert "import orchestrator before it, or rename it" in done.stderr


@pytest.mark.slow
def test_a_whole_run_and_a_study_where_everything_is_called_as_ours(folder: Path) -> None:
    spec = {
        "policy": {"model": "tiny"},
        "environments": {"mine": {"type": "environments.mine:create"}},
        "curriculum": {"stages": 1, "stage": {"steps": 2}},
        "step": {"groups": 2, "group_size": 2},
        "objective": {"preset": "rloo", "shaper": "policies.part", "controller": "none"},
        "evaluate": {"items": 2, "samples": 4},
    }
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec))
    (folder / "study.yaml").write_text(yaml.safe_dump({"spec": "spec.yaml", "seeds": 1, "list": [{"label": "a"}]}))
    for words in (["run", "spec.yaml"], ["study", "study.yaml"], ["report", "spec"]):
        done = evergreen(folder, *words, "--home", str(folder / "home"), path=folder)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in (folder / "home/spec/tracker.log").read_text()
