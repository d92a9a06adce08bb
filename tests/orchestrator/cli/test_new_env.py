"""What `new-env` writes is an environment that works, a test that passes and a spec that trains; nothing is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Evergreen
from tests.orchestrator.specs import REPOSITORY
from tests.shares import slow

SHORT = ["step.groups=2", "curriculum.stage.steps=2", "evaluate.items=2", "scoring.isolation=none"]


@pytest.mark.parametrize("many_turns", [slow(False), True])
def test_what_it_writes_is_checked_tested_and_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evergreen: Evergreen, many_turns: bool
) -> None:
    name = "riddle" if many_turns else "sums"
    monkeypatch.chdir(tmp_path)
    result = evergreen("new-env", name, *(["--many-turns"] if many_turns else []))
    assert result.exit_code == 0, result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.py", f"test_{name}.py", f"{name}.yaml"}
    told = [line.split("#")[0].split() for line in result.stdout.splitlines() if "evergreen" in line.split("#")[0]]
    assert told == [["evergreen", verb, f"{name}.yaml"] for verb in ("check-env", "play", "run")]
    assert "guess." not in (tmp_path / f"{name}.yaml").read_text(), "no file of the example is meant"
    checked = evergreen("check-env", f"{name}.yaml", "--tasks", 8)
    assert (checked.exit_code, f"{name}: nothing found" in checked.stdout) == (0, True), checked.stdout
    test = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"test_{name}.py"]
    done = subprocess.run(
        test, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True
    )
    assert (done.returncode, "2 passed" in done.stdout) == (0, True), done.stdout
    changes = [word for change in SHORT for word in ("--set", change)]
    warm = f"warm_start.environments={{{name}: {{batches: 2}}}}"
    assert evergreen("run", f"{name}.yaml", *changes, "--set", warm).exit_code == 0


def test_files_that_are_there_are_named_and_nothing_is_written(tmp_path: Path, evergreen: Evergreen) -> None:
    (tmp_path / "test_sums.py").write_text("mine")
    result = evergreen("new-env", "sums", "--dir", tmp_path)
    assert result.exit_code == 2
    assert "test_sums.py is there already, and nothing was written" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["test_sums.py"]
    assert (tmp_path / "test_sums.py").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("2x", "cannot name both"),
        ("class", "cannot name"),
        ("store", "package"),
        ("random", "would hide"),
        ("numpy", "would hide"),
        *((word, "is no text in a spec") for word in ("no", "yes", "on", "off", "true", "null")),
    ],
)
def test_a_name_that_is_no_module_or_another_ones_is_refused(
    tmp_path: Path, evergreen: Evergreen, name: str, why: str
) -> None:
    result = evergreen("new-env", name, "--dir", tmp_path / "own")
    assert result.exit_code == 2
    assert why in result.stderr
    assert not (tmp_path / "own").exists()
