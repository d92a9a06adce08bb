import pytest

pytest.register_assert_rewrite("store.ledger.testing")
