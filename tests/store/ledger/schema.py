"""What every database must make of the migrations: our tables, and views that calculate right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from store.ledger.ledger import Ledger
from store.ledger.schema import VERSION_TABLE, migrate
from store.ledger.tables import metadata
from store.records import BoundaryRecord, CellRecord, EnvironmentRecord, RunRecord, StageRecord

# plasticity.md 1.6 and 5.2: rows are boundaries 0 to 3, columns environments A, B, C, trained in that order
ENTROPY = [[1.0, 1.2, 0.9], [0.40, 0.95, 0.80], [0.45, 0.35, 0.60], [0.50, 0.40, 0.25]]
ACCURACY = [[0.10, 0.20, 0.15], [0.60, 0.25, 0.20], [0.50, 0.70, 0.30], [0.45, 0.60, 0.80]]

AVERAGE = "SELECT AVG(value) FROM v_matrix WHERE metric = 'accuracy' AND after_stage = 3"
BACKWARD = """
SELECT AVG(later.value - own.value) FROM stage s
JOIN v_matrix own ON own.run_id = s.run_id AND own.after_stage = s.stage
 AND own.environment_id = s.environment_id AND own.metric = 'accuracy'
JOIN v_matrix later ON later.run_id = s.run_id AND later.after_stage = 3
 AND later.environment_id = s.environment_id AND later.metric = 'accuracy'
WHERE s.stage < 3
"""
FORWARD = "SELECT AVG(value_arrival - value_base) FROM v_carry WHERE metric = 'accuracy'"


class SchemaSuite:
    """The schema, on an empty database."""

    @pytest.fixture
    def url(self) -> str:
        """Give the URL of an empty database; a generator that cleans up will do too."""
        raise NotImplementedError

    @pytest.fixture
    def ledger(self, url: str) -> Iterator[Ledger]:
        """Open it."""
        with Ledger.open(url) as ledger:
            yield ledger

    def test_migrations_make_the_tables_that_the_code_knows(self, url: str) -> None:
        ledger = Ledger(url)
        migrate(ledger.engine)
        with ledger, ledger.engine.connect() as connection:
            context = MigrationContext.configure(
                connection, opts={"compare_type": True, "version_table": VERSION_TABLE}
            )
            assert compare_metadata(context, metadata) == []

    def test_the_views_give_the_reference_numbers(self, ledger: Ledger) -> None:
        _write_matrices(ledger, ENTROPY, ACCURACY)
        entropy = "WHERE metric = 'entropy_token' ORDER BY stage"
        assert _column(ledger, f"SELECT ratio FROM v_stage_delta {entropy}") == pytest.approx(
            [0.4, 0.368421, 0.416667], abs=1e-5
        )
        assert _column(ledger, f"SELECT ratio FROM v_carry {entropy}") == pytest.approx([0.791667, 0.666667], abs=1e-5)
        for query, expected in ((AVERAGE, 0.616667), (BACKWARD, -0.125), (FORWARD, 0.10)):
            assert _column(ledger, query) == pytest.approx([expected], abs=1e-5)

    def test_a_transition_tells_how_long_its_environment_was_away(self, ledger: Ledger) -> None:
        """Stages A, B, A, A, C of ten steps and one that is going on: B has been away for three of them."""
        environments = [EnvironmentRecord(name, "rows", "1", False, {}, ()) for name in "ABC"]
        run = ledger.start_run(RunRecord("uid", "run", 0, "tiny", "rloo", "sequence", "sec", {}, environments))
        for number, name in enumerate("ABAACB", 1):
            ledger.start_stage(run, StageRecord(number, name, 10 * (number - 1), 10, 0.0))
            if number < 6:
                ledger.record_boundary(run, BoundaryRecord(number, 10 * number, 1.0, {}, []))
        other = ledger.start_run(RunRecord("other", "other", 0, "tiny", "rloo", "sequence", "sec", {}, environments))
        ledger.start_stage(other, StageRecord(1, "B", 0, 10, 0.0))
        query = """
            SELECT from_stage, to_stage, from_environment, to_environment, step, gap_steps FROM v_transition
            WHERE run = 'run' ORDER BY to_stage
        """
        with ledger.engine.connect() as connection:
            found = [tuple(row) for row in connection.execute(text(query))]
        assert found == [
            (1, 2, "A", "B", 10, None),
            (2, 3, "B", "A", 20, 10),
            (3, 4, "A", "A", 30, 0),
            (4, 5, "A", "C", 40, None),
            (5, 6, "C", "B", 50, 30),
        ]

    def test_the_views_give_no_ratio_to_a_value_below_the_floor(self, ledger: Ledger) -> None:
        low = [[0.049, 1.0, 0.05]] * 4
        _write_matrices(ledger, low, low)
        entropy = "metric = 'entropy_token' ORDER BY stage"
        assert _column(ledger, f"SELECT ratio FROM v_stage_delta WHERE {entropy}") == [None, 1.0, 1.0]

    def test_the_views_compare_only_equal_generation_settings(self, ledger: Ledger) -> None:
        _write_matrices(ledger, ENTROPY, ACCURACY, temperatures=(1.0, 1.0, 0.5, 0.5))
        entropy = "metric = 'entropy_token' ORDER BY stage"
        assert _column(ledger, f"SELECT stage FROM v_stage_delta WHERE {entropy}") == [1, 3]
        assert _column(ledger, f"SELECT stage FROM v_carry WHERE {entropy}") == [2]


def _column(ledger: Ledger, query: str) -> list[float | None]:
    with ledger.engine.connect() as connection:
        return list(connection.scalars(text(query)))


def _write_matrices(
    ledger: Ledger,
    entropy: Sequence[Sequence[float]],
    accuracy: Sequence[Sequence[float]],
    temperatures: Sequence[float] = (1.0,) * 4,
) -> None:
    environments = [EnvironmentRecord(name, "rows", "1", False, {}, ()) for name in "ABC"]
    run = ledger.start_run(RunRecord("uid", "run", 0, "tiny", "rloo", "sequence", "sec", {}, environments))
    for i in range(4):
        cells = [
            CellRecord(name, None, metric, matrix[i][j], None, 8, 4)
            for metric, matrix in (("entropy_token", entropy), ("accuracy", accuracy))
            for j, name in enumerate("ABC")
        ]
        if i:
            ledger.start_stage(run, StageRecord(i, "ABC"[i - 1], 10 * (i - 1), 10, 0.0))
        ledger.record_boundary(run, BoundaryRecord(i, 10 * i, 1.0, {"temperature": temperatures[i]}, cells))
