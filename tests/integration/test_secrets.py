"""A password that a spec holds works in that process, and is nowhere in what the run leaves behind."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

import orchestrator
from orchestrator.errors import SpecError, UserError
from orchestrator.runs import tracker_process
from orchestrator.spec import load_spec
from store.ledger import Ledger
from tests.conftest import Evergreen
from tests.orchestrator.runs.test_tracker_process import Heard
from tests.orchestrator.specs import alone

TRACKED = "http://me:hu%2Fsh@127.0.0.1:9/?token=hush"


def files_with(folder: Path, *secrets: str) -> list[str]:
    return [
        str(path)
        for path in folder.rglob("*")
        if path.is_file() and any(secret.encode() in path.read_bytes() for secret in secrets)
    ]


@pytest.fixture
def spec() -> dict[str, Any]:
    return {**alone(stages=1), "tracker": {"type": "mlflow", "uri": TRACKED}}


def test_nothing_that_a_run_leaves_behind_holds_its_passwords(
    spec: dict[str, Any], tmp_path: Path, evergreen: Evergreen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker_process, "WAIT_S", 0.1)
    jobs: list[tracker_process.TrackerJob | None] = []
    monkeypatch.setattr(
        tracker_process.TrackerProcess,
        "__init__",
        lambda self, *run: jobs.append(tracker_process.job_of(*run)) or _idle(self),
    )
    heard, home = Heard(), tmp_path / "home"
    assert orchestrator.run(spec, home=home, watcher=heard).status == "finished"
    assert jobs[0] is not None
    assert jobs[0].target.uri == TRACKED, "the tracker can log in"
    assert any("EVERGREEN_TRACKER_PASSWORD" in text for text in heard.events), "the user is told what is needed later"

    assert evergreen("report", "alone", "--home", home).exit_code == 0
    assert evergreen("export", "alone", tmp_path / "tables", "--format", "csv", "--home", home).exit_code == 0
    assert files_with(tmp_path, "hush", "hu%2Fsh", "hu/sh") == []
    kept = yaml.safe_load((home / "alone" / "spec.yaml").read_text())
    assert kept["tracker"]["uri"] == "http://me:***@127.0.0.1:9/?token=***"
    assert stat.S_IMODE((home / "alone" / "spec.yaml").stat().st_mode) == 0o600
    said = [evergreen("show", "alone", *more, "--home", home) for more in ((), ("--json",), ("--events",))]
    assert all("hush" not in result.output and "hu%2Fsh" not in result.output for result in said)


def _idle(self: Any) -> None:
    self._job = self.process = None


def test_a_spec_of_before_with_its_password_still_resumes_and_loses_it(
    spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker_process, "WAIT_S", 0.1)
    monkeypatch.setattr(tracker_process.TrackerProcess, "__init__", lambda self, *run: _idle(self))
    orchestrator.run(spec, home=tmp_path, until_step=1)
    file = tmp_path / "alone" / "spec.yaml"
    old = yaml.safe_load(file.read_text())
    del old["ledger"]["patience"], old["ledger"]["password_file"], old["tracker"]["password_file"]
    file.write_text(yaml.safe_dump({**old, "tracker": {**old["tracker"], "uri": TRACKED}}))
    heard = Heard()
    assert orchestrator.resume("alone", home=tmp_path, watcher=heard).status == "finished"
    assert any("EVERGREEN_TRACKER_PASSWORD" in text for text in heard.events)
    assert files_with(tmp_path, "hush", "hu%2Fsh") == []


def test_validate_prints_no_password(spec: dict[str, Any], tmp_path: Path, evergreen: Evergreen) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(yaml.safe_dump(spec))
    for more in ((), ("--all",), ("--json",)):
        result = evergreen("validate", file, *more)
        assert result.exit_code == 0
        assert "hush" not in result.output
        assert "hu%2Fsh" not in result.output
    assert json.loads(evergreen("validate", file, "--json").stdout)["spec"]["tracker"]["uri"].endswith("token=***")


def test_upgrade_names_ledgers_without_their_passwords(
    tmp_path: Path, evergreen: Evergreen, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgraded: list[str] = []
    monkeypatch.setattr(Ledger, "upgrade", upgraded.append)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "spec.yaml").write_text("ledger: {url: 'postgresql://me:hu/sh@host/db'}")
    result = evergreen("upgrade", "--home", tmp_path)
    assert "postgresql://me:hu/sh@host/db" in upgraded
    assert "postgresql://***@host/db is up to date" in result.stdout


@pytest.mark.parametrize(
    "override",
    ["tracker.uri=ftp://me:hush@h/x", "ledger=postgresql://me:hush@h/db", "learner.lr=a://b:hush@c"],
)
def test_a_message_about_a_spec_quotes_no_password(override: str) -> None:
    with pytest.raises(SpecError) as refused:
        load_spec(alone(), [override])
    assert "hush" not in str(refused.value)


def test_a_password_elsewhere_in_a_spec_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    spec = alone()
    spec["environments"]["one"] = {**spec["environments"]["one"], "source": "postgresql://me:hush@h/db"}
    with pytest.raises(UserError, match=r"environments\.one\.source: a URL with a password") as refused:
        orchestrator.run(spec, home=tmp_path)
    assert "hush" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_password_file_is_named_from_the_root() -> None:
    with pytest.raises(SpecError, match=r"ledger\.password_file: a path from / or ~ is wanted"):
        load_spec(alone(), ["ledger.password_file=secret.txt"])
