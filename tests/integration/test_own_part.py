"""docs/extend.md as it stands: a shaper of the user's own, its test, and a run that names it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import Evergreen
from tests.documents import code

SPEC = {
    "policy": {"model": "tiny", "vocabulary": "closed"},
    "environments": {"book": {"type": "codebook", "keys": 4, "categories": {"4": 4}}},
    "curriculum": {"stages": 1, "stage": {"steps": 3}},
    "step": {"groups": 8, "group_size": 8},
    "objective": {"preset": "rloo", "shaper": "my_parts.focal", "focal_gamma": 1.0},
    "evaluate": {"items": 2, "samples": 4},
    "tracker": "none",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my_parts").mkdir()
    (tmp_path / "my_parts" / "focal.py").write_text(code("extend.md", "A shaper"))
    (tmp_path / "test_focal.py").write_text(code("extend.md", "Its test"))
    return tmp_path


@pytest.mark.slow
def test_the_documented_test_of_the_documented_shaper_passes(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_focal.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_a_run_uses_it_and_a_wrong_option_is_told(
    folder: Path, evergreen: Evergreen, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, home = folder / "own.yaml", folder / "home"
    spec.write_text(yaml.safe_dump(SPEC))
    monkeypatch.setattr(sys, "path", [*sys.path])  # the spec's folder is looked in for `my_parts`
    ran = evergreen("run", spec, "--home", home)
    assert ran.exit_code == 0, ran.stderr
    assert '"force_focal"' in evergreen("show", "own", "--json", "--home", home).stdout
    refused = evergreen("validate", spec, "--set", "objective.focal_gama=1")
    assert refused.exit_code == 2
    assert "did you mean `focal_gamma`?" in refused.stderr
