"""docs/environment.md stays true: its files are checked, its commands run."""

import re
import runpy
import shlex
import tomllib
from pathlib import Path

import pytest

from environments import EnvironmentSource
from environments.checker import check
from tests.environments.checker.here import findings_here
from tests.shares import share

REPOSITORY = Path(__file__).parents[3]
GUIDE = (REPOSITORY / "docs" / "environment.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
COMMANDS = [line for kind, text in BLOCKS if kind == "console" for line in text.splitlines()]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A reader's folder, with the files of the guide in it."""
    for kind, text in BLOCKS:
        if kind != "console":
            path = tmp_path / text.partition("\n")[0].removeprefix("# ")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_the_smallest_environment_is_small():
    (first, *_) = [text for kind, text in BLOCKS if kind == "python"]
    assert sum(bool(line.strip()) for line in first.splitlines()) <= 25


@pytest.mark.parametrize("command", share(COMMANDS, 2))
def test_its_commands_find_nothing_wrong(folder, evergreen, command):
    program, *words = shlex.split(command)
    result = evergreen(*words)
    assert program == "evergreen"
    assert result.exit_code == 0, result.output
    assert "error" not in result.stdout


def test_its_test_passes(folder):
    runpy.run_path(str(folder / "test_adding.py"))["test_the_checker_finds_no_errors"]()


def test_there_is_nothing_wrong_with_its_several_turns(folder):
    assert findings_here(EnvironmentSource("guessing", "guessing:create")) == []


def test_its_package_is_found_by_the_entry_point(folder):
    (group,) = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["entry-points"].items()
    installed = folder / "arithmetic-1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: arithmetic\nVersion: 1\n")
    lines = [f"[{group[0]}]", *(f"{name} = {module}" for name, module in group[1].items())]
    (installed / "entry_points.txt").write_text("\n".join(lines))
    findings = check(EnvironmentSource("sums", "adding", {"digits": [3]}))
    assert [str(finding) for finding in findings] == []
