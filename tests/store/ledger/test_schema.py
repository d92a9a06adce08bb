from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, make_url, text

from store.errors import LedgerError
from store.ledger import Ledger, engine
from store.ledger.schema import HEAD, migrate
from store.ledger.tables import metadata
from tests.conftest import PRAGMAS


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'evergreen.db'}"


def _declare_schema(url: str, number: str) -> None:
    with Ledger.open(url) as ledger, ledger.engine.begin() as connection:
        connection.execute(text("UPDATE evergreen_version SET version_num = :number"), {"number": number})


def test_the_newest_migration_is_the_one_the_code_expects() -> None:
    config = Config()
    config.set_main_option("script_location", "store.ledger:migrations")
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_migrated_tables_are_to_the_letter_those_of_the_code(url: str, tmp_path: Path) -> None:
    """Also what a comparison of metadata leaves out: primary keys, WITHOUT ROWID, names of constraints."""
    query = text("SELECT name, sql FROM sqlite_master WHERE type IN ('table', 'index') AND sql IS NOT NULL")

    def definitions(connection_url: str) -> dict[str, list[str]]:
        with create_engine(connection_url).connect() as connection:
            # the order of constraints inside a table means nothing
            return {name: sorted(sql.replace(",", "").split("\n\t")) for name, sql in connection.execute(query)}

    with Ledger(url) as ledger:
        migrate(ledger.engine)
    fresh = f"sqlite:///{tmp_path / 'fresh.db'}"
    metadata.create_all(create_engine(fresh))
    migrated = definitions(url)
    del migrated["evergreen_version"]
    assert migrated == definitions(fresh)


def test_an_older_ledger_names_the_command_that_upgrades_it(url: str) -> None:
    _declare_schema(url, "0000")
    with pytest.raises(LedgerError, match=r"earlier Evergreen \(schema 0000.*`evergreen upgrade`"):
        Ledger.open(url)


def test_a_newer_ledger_asks_for_a_newer_evergreen(url: str) -> None:
    _declare_schema(url, "9999")
    for use in (Ledger.open, Ledger.upgrade):
        with pytest.raises(LedgerError, match=r"later Evergreen.*newer evergreen-rl"):
            use(url)


def test_upgrading_a_ledger_of_our_schema_changes_nothing(url: str) -> None:
    Ledger.open(url).close()
    Ledger.upgrade(url)
    with Ledger.open(url, create=False) as ledger:
        assert ledger.reading.runs() == []


@pytest.mark.parametrize("use", [lambda url: Ledger.open(url, create=False), Ledger.upgrade])
def test_a_ledger_that_is_not_there_is_not_made_by_looking(url: str, tmp_path: Path, use) -> None:
    with pytest.raises(LedgerError, match="no ledger"):
        use(url)
    assert list(tmp_path.iterdir()) == []


def test_the_ledger_shares_a_database_with_another_migrated_program(url: str) -> None:
    with create_engine(url).begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num TEXT)"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('of MLflow')"))
    with Ledger.open(url) as ledger:
        assert ledger.reading.runs() == []
        assert inspect(ledger.engine).has_table("alembic_version")


def test_sqlite_connections_are_set_up_for_several_processes(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_PRAGMAS", PRAGMAS)  # tests wait for no disk
    with Ledger.open(url) as ledger, ledger.engine.connect() as connection:
        pragmas = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        found = [connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() for pragma in pragmas]
    assert found == ["wal", 2, 1, 20000], "2, FULL: what was written survives a power cut"


def test_a_database_that_another_process_is_making_is_waited_for(url: str) -> None:
    """SQLite does not wait by itself for a writer to end where there is no write-ahead log yet."""
    other = sqlite3.connect(make_url(url).database, isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE theirs (name TEXT)")
    other.execute("BEGIN IMMEDIATE")
    ends = threading.Timer(0.2, other.execute, ["COMMIT"])
    ends.start()
    with Ledger.open(url) as ledger:
        assert ledger.reading.runs() == []
    ends.join()
    other.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("runs/evergreen.db", "not the URL of a database"),
        ("oracle://host/db", "needs the Python package"),
        ("sqlite:////no/such/folder/evergreen.db", "Opening the ledger failed"),
    ],
)
def test_a_url_that_cannot_work_is_explained(url: str, message: str) -> None:
    with pytest.raises(LedgerError, match=message):
        Ledger.open(url)


def test_a_password_is_not_shown(url: str) -> None:
    with pytest.raises(LedgerError) as refused:
        Ledger.open("postgresql://me:secret@127.0.0.1:1/nothing")
    assert "secret" not in str(refused.value)


def test_opening_a_ledger_that_is_up_to_date_does_not_import_alembic(url: str) -> None:
    Ledger.open(url).close()
    code = f"import sys; from store.ledger import Ledger; Ledger.open({url!r}); assert 'alembic' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
