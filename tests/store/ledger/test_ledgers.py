"""The published test class, on every database we support. PostgreSQL when EVERGREEN_TEST_POSTGRES_URL is given."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from tests.store.ledger.shared import SharedLedgerSuite
from tests.store.ledger.suite import LedgerSuite

POSTGRES = os.environ.get("EVERGREEN_TEST_POSTGRES_URL", "")


@pytest.mark.slow
class TestSqliteInMemory(LedgerSuite):
    @pytest.fixture
    def url(self) -> str:
        return "sqlite://"


class TestSqliteFile(SharedLedgerSuite):
    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path / 'evergreen.db'}"


@pytest.mark.skipif(not POSTGRES, reason="EVERGREEN_TEST_POSTGRES_URL is not set")
class TestPostgres(SharedLedgerSuite):
    @pytest.fixture
    def url(self) -> Iterator[str]:
        name = f"evergreen_test_{uuid.uuid4().hex}"
        server = make_url(POSTGRES).set(drivername="postgresql+psycopg")
        engine = create_engine(server, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
            yield server.set(database=name).render_as_string(hide_password=False)
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        engine.dispose()
