"""A fresh ledger is made from the tables of the code; migrations, which need Alembic, come to the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from store.errors import LedgerError
from store.ledger import Ledger, schema
from tests.store.ledger.schema import SchemaSuite


def _everything(url: str) -> dict[str, object]:
    """Definitions of tables, indices and views, and the rows that an empty ledger has."""
    with Ledger.open(url) as ledger, ledger.engine.connect() as connection:
        query = text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        # the order of constraints inside a table means nothing
        found: dict[str, object] = {
            name: sorted(sql.replace(",", "").split("\n\t")) for name, sql in connection.execute(query)
        }
        for table in ("environment", "category", "holdout", schema.VERSION_TABLE):
            found[f"rows of {table}"] = connection.execute(text(f"SELECT * FROM {table}")).all()
    return found


def _migrated(folder: Path) -> str:
    url = f"sqlite:///{folder / 'migrated.db'}"
    with Ledger(url) as ledger:
        schema.migrate(ledger.engine)
    return url


def test_a_fresh_ledger_is_to_the_letter_a_migrated_one(tmp_path: Path) -> None:
    assert _everything(f"sqlite:///{tmp_path / 'fresh.db'}") == _everything(_migrated(tmp_path))


def test_an_older_ledger_is_not_upgraded_without_alembic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "find_spec", lambda name: None)
    url = f"sqlite:///{tmp_path / 'evergreen.db'}"
    with Ledger.open(url) as ledger, ledger.engine.begin() as connection:
        connection.execute(text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '0000'"))
    with pytest.raises(LedgerError, match="needs the Python package 'alembic'"):
        Ledger.upgrade(url)


class TestMigrated(SchemaSuite):
    """Everything that holds for a fresh ledger."""

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return _migrated(tmp_path)
