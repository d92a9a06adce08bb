from __future__ import annotations

import json
import re
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from rich.console import Console

from orchestrator.cli.validate import print_plan
from orchestrator.runs.dry_run import make_plan
from orchestrator.spec import load_spec
from tests.conftest import Evergreen
from tests.environments.remote.server import Server, says, short_run
from tests.orchestrator.specs import EXAMPLES, REPOSITORY
from tests.shares import slow


@pytest.mark.parametrize(
    "path",
    [slow(path) if path.stem == "qwen" else path for path in EXAMPLES],  # its puzzles take seconds to be made
    ids=[path.stem for path in EXAMPLES],
)
def test_every_example_is_valid_without_weights(
    tmp_path: Path, evergreen: Evergreen, example_url: str, path: Path
) -> None:
    servers = [
        f"environments.{name}.urls=[{example_url}]"
        for name, environment in yaml.safe_load(path.read_text())["environments"].items()
        if environment["type"] == "http"
    ]
    changes = [word for change in servers for word in ("--set", change)]
    result = evergreen("validate", path, "--all", "--home", tmp_path / "home", *changes)
    assert result.exit_code == 0, result.stderr
    text, _, plan = result.stdout.partition(f"\n\n{path.stem}: the tasks of its environments\n")
    assert yaml.safe_load(text)["name"] == path.stem, "what is printed is a spec"
    assert all(f"\n {name} " in plan for name in yaml.safe_load(text)["environments"])
    assert all(f"\n{label}: " in plan for label in ("plan", "trains", "looks", "disk"))
    assert "free" in plan
    assert not (tmp_path / "home").exists(), "nothing is made"


@pytest.mark.parametrize("name", ["demo", "scheduled", "countdown_tiny"])
def test_a_plan_fits_a_screen(name: str) -> None:
    spec = load_spec(REPOSITORY / "examples" / f"{name}.yaml")
    screen = Console(width=80, force_terminal=True, color_system=None, soft_wrap=True, file=StringIO())
    print_plan(screen, spec.name, make_plan(spec, Path("runs")))
    lines = screen.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) < 24 - 2, "with the command above and the prompt below"
    assert max(map(len, lines)) <= 80


def test_tasks_of_servers_that_are_away_are_not_waited_for_long(
    tmp_path: Path, evergreen: Evergreen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("environments.http.WAIT_S", 0.01)
    with Server() as server:
        spec = tmp_path / "away.yaml"
        given = short_run("game", {"urls": [server.url], "retry_s": 0.2, "patience_s": 5})
        spec.write_text(yaml.safe_dump(given))
        server.always("tasks", says(503))
        refused = evergreen("validate", spec)
        assert refused.exit_code == 2
        assert "environment game: task " in refused.stderr
        assert f"{server.url} does not answer (unavailable (503))" in refused.stderr
        assert server.count("tasks") < 20, "for `retry_s`, not for `patience_s`"


def test_tasks_to_train_on_and_held_out_are_counted(evergreen: Evergreen) -> None:
    told = evergreen("validate", REPOSITORY / "examples" / "countdown_tiny.yaml").stdout
    assert re.search(r"countdown +1, 2, 3 and 4 \(held out only\) +2,100 +89", told)
    assert "type: rows" not in told, "values are for --all"
    demo = evergreen("validate", REPOSITORY / "examples" / "demo.yaml").stdout
    assert re.search(r"red +4 and 16 +64 +the same tasks", demo)
    assert re.search(r"divisors +5 and 9 +endless +endless", demo)


def test_a_disk_that_does_not_hold_the_run_is_a_warning_with_the_remedy(
    evergreen: Evergreen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.runs.disk_use.shutil.disk_usage", lambda place: SimpleNamespace(free=30_000_000))
    told = evergreen("validate", REPOSITORY / "examples" / "demo.yaml").stdout
    warning = next(line for line in told.splitlines() if line.startswith("warning: "))
    assert "the disk does not hold this run" in warning
    for remedy in ("`checkpoint.keep: 1` makes it", "`evergreen prune`", "`--home` names another disk"):
        assert remedy in warning


def test_the_same_facts_come_as_json(evergreen: Evergreen) -> None:
    facts = json.loads(
        evergreen("validate", REPOSITORY / "examples" / "smoke.yaml", "--json", "--set", "seed=7").stdout
    )
    assert (facts["spec"]["name"], facts["spec"]["seed"]) == ("smoke", 7)
    assert facts["plan"]["steps"] == 30
    assert facts["plan"]["parameters"] > 10_000
    assert {"stages", "episodes", "evaluations", "checkpoint_bytes", "num_checkpoints", "ledger_bytes"} < {
        *facts["plan"]
    }
    assert facts["plan"]["environments"][0]["categories"][0]["name"] == "3"
