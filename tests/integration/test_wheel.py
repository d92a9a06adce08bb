"""What is installed: the four packages with all their files, and the examples inside one of them. Slow: it is built."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.orchestrator.specs import REPOSITORY

pytestmark = pytest.mark.slow
PACKAGES = ("orchestrator", "environments", "policies", "store")
HELPERS = (".py", ".j2", ".css", ".typed")


def run(*words: object, folder: Path, **environment: str) -> str:
    done = subprocess.run(
        [str(word) for word in words], cwd=folder, env=environment or None, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git knows of the repository: building writes beside the sources."""
    folder = tmp_path_factory.mktemp("clone")
    for name in run("git", "ls-files", folder=REPOSITORY).splitlines():
        source, target = REPOSITORY / name, folder / name
        if source.is_file() and not name.startswith(("docs/", "tests/")):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    return folder


@pytest.fixture(scope="module")
def wheels(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The wheel of the clone, and that of its source distribution."""
    folder = tmp_path_factory.mktemp("wheels")
    build = "import setuptools.build_meta as b, sys; print(b.{}(sys.argv[1]))"
    run(sys.executable, "-c", build.format("build_wheel"), folder / "clone", folder=clone)
    run(sys.executable, "-c", build.format("build_sdist"), folder, folder=clone)
    run("tar", "xzf", *folder.glob("*.tar.gz"), folder=folder)
    (unpacked,) = (path for path in folder.iterdir() if path.is_dir() and (path / "setup.py").is_file())
    run(sys.executable, "-c", build.format("build_wheel"), folder / "sdist", folder=unpacked)
    return [next((folder / name).glob("*.whl")) for name in ("clone", "sdist")]


def test_wheels_hold_the_packages_and_the_examples_inside_one(clone: Path, wheels: list[Path]) -> None:
    files = {path.relative_to(clone).as_posix() for path in clone.rglob("*") if path.is_file()}
    ours = {name for name in files if name.startswith(tuple(f"{one}/" for one in PACKAGES)) and name.endswith(HELPERS)}
    examples = {f"orchestrator/{name}" for name in files if name.startswith("examples/") and "__pycache__" not in name}
    assert len(ours) > 400
    assert len(examples) > 20
    for wheel in wheels:
        held = set(zipfile.ZipFile(wheel).namelist())
        assert sorted((ours | examples) - held) == []
        assert {name.partition("/")[0] for name in held if ".dist-info" not in name} == {*PACKAGES}


def test_an_installed_wheel_copies_an_example_that_runs(wheels: list[Path], tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheels[0]) as wheel:
        wheel.extractall(site)
    evergreen = (sys.executable, "-P", "-c", "from orchestrator.cli import main; main()")
    there = {"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    assert f"wrote {Path('demo', 'demo.yaml')}" in run(
        *evergreen, "init", "--example", "demo", folder=tmp_path, **there
    )
    few = ("curriculum.stages=1", "curriculum.stage.steps=1", "step.groups=2", "evaluate.items=2", "tracker=none")
    changes = [word for change in (*few, "warm_start=null") for word in ("--set", change)]
    run(*evergreen, "run", "demo/demo.yaml", *changes, folder=tmp_path, **there)
    assert "finished" in run(*evergreen, "ls", folder=tmp_path, **there)
