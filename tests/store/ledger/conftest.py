import pytest

pytest.register_assert_rewrite(*(f"tests.store.ledger.{name}" for name in ("suite", "shared", "lineage", "schema")))
