"""The example of the guide: its server, as a program of its own, checked and trained on with the guide's spec."""

from __future__ import annotations

from pathlib import Path

import yaml

from environments import EnvironmentSource
from environments.checker.findings import CheckLimits
from orchestrator.runs.api import run
from orchestrator.runs.catalog import opened
from tests.environments.checker.here import findings_here

ROOT = Path(__file__).parents[3]


def test_the_checker_finds_nothing_in_the_example(example_url):
    source = EnvironmentSource("guess", "http", {"urls": [example_url]})
    assert [str(found) for found in findings_here(source, CheckLimits(tasks=8, budget_s=1.0))] == []


def test_the_spec_of_the_guide_trains_on_it(example_url, tmp_path):
    text = (ROOT / "docs" / "http_environments.md").read_text()
    spec = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    assert spec["environments"]["guess"]["urls"] == ["http://127.0.0.1:8400"]
    spec["environments"]["guess"]["urls"] = [example_url]
    spec["curriculum"]["stage"]["steps"] = 3
    spec["evaluate"] = {"items": 8, "samples": 4}
    spec["warm_start"]["environments"]["guess"]["batches"] = 20
    assert run(spec, home=tmp_path).status == "finished"
    with opened(tmp_path, "http") as (_, ledger):
        turns = [point.value for point in ledger.reading.series("http", "num_turns", "guess")]
    assert len(turns) == 6
    assert 1 < max(turns) <= 2
