"""Whole runs on PostgreSQL, when EVERGREEN_TEST_POSTGRES_URL is given: connections are cut, other shells look on."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from sqlalchemy import URL, create_engine, make_url, text

import orchestrator
from store import logins
from tests.conftest import Evergreen
from tests.integration.runs import At, ending
from tests.integration.test_secrets import files_with
from tests.orchestrator.specs import small

SERVER = os.environ.get("EVERGREEN_TEST_POSTGRES_URL", "")
pytestmark = pytest.mark.skipif(not SERVER, reason="EVERGREEN_TEST_POSTGRES_URL is not set")


class Database:
    """A fresh database, whose connections can be cut."""

    def __init__(self, url: URL) -> None:
        self.url, self._server = url, create_engine(make_url(SERVER).set(drivername="postgresql+psycopg"))

    def ask(self, statement: str) -> None:
        with self._server.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(statement))

    def cut(self) -> None:
        self.ask(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self.url.database}'")


@pytest.fixture
def database() -> Iterator[Database]:
    name = f"evergreen_test_{uuid.uuid4().hex}"
    made = Database(make_url(SERVER).set(drivername="postgresql", database=name))
    made.ask(f"CREATE DATABASE {name}")
    yield made
    made.ask(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_run_whose_connections_are_cut_all_the_time_is_the_same_run(
    finished: Path, tmp_path: Path, database: Database, evergreen: Evergreen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logins, "_given", {})
    monkeypatch.delenv("EVERGREEN_LEDGER_PASSWORD", raising=False)
    watcher = At(1, lambda: setattr(watcher, "n", 1) or database.cut())
    url = database.url.render_as_string(hide_password=False)
    spec = small(objective="repo_r", ledger={"url": url}, scoring={"isolation": "none"})
    assert orchestrator.run(spec, home=tmp_path, watcher=watcher).status == "finished"
    assert ending(tmp_path, "small") == ending(finished, "small")

    password = str(database.url.password)
    monkeypatch.setattr(logins, "_given", {})  # another shell
    kept = yaml.safe_load((tmp_path / "small" / "spec.yaml").read_text())["ledger"]["url"]
    assert kept == url.replace(f":{password}@", ":***@")
    assert files_with(tmp_path, f":{password}@") == []
    result = evergreen("ls", "--home", tmp_path)
    assert result.exit_code != 0
    assert "set EVERGREEN_LEDGER_PASSWORD or PGPASSWORD" in result.stderr
    assert evergreen("resume", "small", "--home", tmp_path).exit_code == 2, "it is away for nobody else"
    for variable in ("EVERGREEN_LEDGER_PASSWORD", "PGPASSWORD"):
        monkeypatch.setenv(variable, password)
        listed = json.loads(evergreen("ls", "--json", "--home", tmp_path).stdout)
        assert [(run["name"], run["status"]) for run in listed] == [("small", "finished")]
        assert evergreen("show", "small", "--home", tmp_path).exit_code == 0
        assert evergreen("report", "small", "--home", tmp_path).exit_code == 0
        assert orchestrator.resume("small", home=tmp_path).status == "finished"
        monkeypatch.delenv(variable)
