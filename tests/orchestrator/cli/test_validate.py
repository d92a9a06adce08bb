from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.conftest import Evergreen
from tests.orchestrator.specs import EXAMPLES, REPOSITORY


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_every_example_is_valid_without_weights(tmp_path: Path, evergreen: Evergreen, path: Path) -> None:
    result = evergreen("validate", path, "--home", tmp_path / "home")
    assert result.exit_code == 0, result.stderr
    text, _, plan = result.stdout.partition("\nplan: ")
    assert yaml.safe_load(text)["name"] == path.stem, "what is printed is a spec"
    assert "steps" in plan
    assert "disk: " in plan
    assert "free" in plan
    assert not (tmp_path / "home").exists(), "nothing is made"


def test_the_same_facts_come_as_json(evergreen: Evergreen) -> None:
    facts = json.loads(
        evergreen("validate", REPOSITORY / "examples" / "smoke.yaml", "--json", "--set", "seed=7").stdout
    )
    assert (facts["spec"]["name"], facts["spec"]["seed"]) == ("smoke", 7)
    assert facts["plan"]["steps"] == 30
    assert facts["plan"]["parameters"] > 10_000
