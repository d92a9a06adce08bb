"""docs/environments.md stays true: what is pasted from it is checked, and trained on."""

import re
import runpy
from pathlib import Path

import pytest

import orchestrator
from environments import EnvironmentSource
from environments.plugins import ENVIRONMENTS
from environments.registry import types
from tests.environments.checker.here import findings_here
from tests.shares import share

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "environments.md").read_text()
SECTIONS = dict(section.split("\n", 1) for section in GUIDE.split("\n## ")[1:])
NEEDS = {name: name for name in ("gymnasium", "textarena", "verifiers", "reasoning_gym")}
PASTED = {
    kind: blocks
    for kind, text in SECTIONS.items()
    if (blocks := re.findall(r"^```(?:yaml|python)\n# (\S+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
}
SPECS = [(kind, name) for kind, blocks in PASTED.items() for name, _ in blocks if name.endswith(".yaml")]
TOGETHER = "All in one curriculum"
SERVED_AT = "http://127.0.0.1:8400"
SMALL = [
    *("policy={model: tiny, layers: 1, hidden: 16, mlp: 16}", "curriculum={stages: 1, stage: {steps: 1}}"),
    *("step={groups: 2, group_size: 2}", "evaluate={items: 2, samples: 4}", "tracker=none"),
]


@pytest.fixture
def folder(tmp_path, monkeypatch, example_url):
    """A reader's folder with everything of the guide in it; what the guide has served at 8400 has another port here."""
    for blocks in PASTED.values():
        for name, text in blocks:
            (tmp_path / name).write_text(text.replace(SERVED_AT, example_url))
    monkeypatch.chdir(tmp_path)
    for script in tmp_path.glob("make_*.py"):
        runpy.run_path(str(script))
    return tmp_path


def sources(folder, kind, name):
    pytest.importorskip(NEEDS.get(kind, "environments"))
    spec = orchestrator.load_spec(folder / name)
    return [EnvironmentSource(key, one.type, dict(one.options), str(folder)) for key, one in spec.environments.items()]


def test_every_type_has_its_section():
    assert set(types(ENVIRONMENTS)) <= set(SECTIONS)
    assert {kind for kind, _ in SPECS} == set(SECTIONS) - {TOGETHER}
    assert "python examples/env_server.py 8400 &\nevergreen run served.yaml" in SECTIONS["http"]
    assert SERVED_AT in dict(PASTED["http"])["served.yaml"]


def test_what_a_kind_needs_is_there_after_make_install():
    extras = re.findall(r"`evergreen-rl\[([\w-]+)\]`", GUIDE.split("\n## ")[0])
    (installed,) = re.findall(r"--editable '\.\[([\w,-]+,dev)\]'", (ROOT / "Makefile").read_text())
    assert set(extras) == {"gymnasium", "textarena", "verifiers", "reasoning-gym"}
    assert set(extras) <= set(installed.split(","))


@pytest.mark.parametrize(("kind", "name"), SPECS)
def test_the_checker_finds_nothing_in_what_is_pasted(folder, kind, name):
    for source in sources(folder, kind, name):
        notes = {"no-answer", "few-tasks"}  # as most games have none, and the guide's data is small
        assert [str(found) for found in findings_here(source) if found.rule not in notes] == []


@pytest.mark.parametrize(("kind", "name"), share(SPECS, 5))
def test_what_is_pasted_is_trained_on(folder, kind, name):
    sources(folder, kind, name)
    orchestrator.run(folder / name, SMALL, home=folder / "home")
    (run,) = (path for path in (folder / "home").iterdir() if (path / "report.html").exists())
    assert run.name == name.removesuffix(".yaml")
