"""A home with one folder that cannot be read: the runs beside it are listed and upgraded all the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import orchestrator
from orchestrator.runs.catalog import inventory, is_stray, ledger_url, upgrade_ledgers
from store.home import Home
from store.ledger.engine import parsed_url
from tests.orchestrator.specs import alone


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    orchestrator.run(alone(stages=1, steps=1), home=home)
    (home / "other").mkdir()
    return home


def written(text: str | bytes) -> Callable[[Path], object]:
    return lambda spec: spec.write_bytes(text if isinstance(text, bytes) else text.encode())


READABLE = {  # and what it says of its ledger is none
    "no URL": "ledger: {url: nonsense}",
    "odd port": "ledger: {url: 'postgresql://h:xx/db'}",
    "unknown kind": "ledger: {url: 'foo://h/db'}",
    "lost password": "ledger: {url: 'postgresql://u@127.0.0.1:1/db', password_file: /gone}",
}
UNREADABLE = {
    "number": "ledger: {url: 5}",
    "number as a file": "ledger: {url: 'postgresql://u@h/db', password_file: 5}",
    "list": "[1]",
    "deep": "a: " + "[" * 3000,
    "date": "a: 2001-99-99",
    "bytes": b"\xff\xfe",
}


@pytest.mark.parametrize("text", [*READABLE.values(), *UNREADABLE.values()], ids=[*READABLE, *UNREADABLE])
def test_a_folder_whose_spec_cannot_be_used_is_told_of_beside_the_others(home: Path, text: str | bytes) -> None:
    written(text)(home / "other" / "spec.yaml")
    found = inventory(home)
    assert [run.name for run in found.runs] == ["alone"]
    (problem,) = found.problems
    assert problem.endswith("Not listed: other.")
    upgraded, failures = upgrade_ledgers(home)
    assert upgraded == [f"sqlite:///{home}/evergreen.db"]
    assert len(failures) == (text in READABLE.values())


def test_a_run_that_its_ledger_on_postgresql_does_not_know_is_a_stray(home: Path) -> None:
    """Whichever way its URL names the driver."""
    url = "postgresql://u@127.0.0.1:1/db"
    written(f"ledger: {{url: '{url}'}}")(home / "other" / "spec.yaml")
    assert ledger_url(Home(home), "other") == url
    assert is_stray(Home(home), parsed_url(url), home / "other", known=[])


@pytest.mark.parametrize("between", ["", "\n", "\r\n", "# moved\n", "  # moved\n\n"])
def test_a_ledger_is_found_in_a_spec_that_was_edited(home: Path, between: str) -> None:
    written(f"seed: 0\nledger:\n{between}  url: sqlite:////elsewhere.db\n\nname: other\n")(home / "other" / "spec.yaml")
    assert ledger_url(Home(home), "other") == "sqlite:////elsewhere.db"


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffledger: {url: 'URL'}\n",
        "\"ledger\": {url: 'URL'}\n",
        "ledger : {url: 'URL'}\n",
        "ledger: {\nurl: 'URL'\n}\n",
        "{ledger: {url: 'URL'}}",
        "name: &where URL\nledger: {url: *where}\n",
    ],
)
def test_a_ledger_is_found_however_a_spec_is_written(home: Path, text: str) -> None:
    written(text.replace("URL", "sqlite:////elsewhere.db"))(home / "other" / "spec.yaml")
    assert ledger_url(Home(home), "other") == "sqlite:////elsewhere.db"
