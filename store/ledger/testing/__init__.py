"""What every ledger must do: test classes for pytest. A backend's test gives the fixture `url` and inherits.

    class TestMyDatabase(SharedLedgerSuite):
        @pytest.fixture
        def url(self) -> Iterator[str]: ...  # of an empty database, fresh for every test

Failures read better after `pytest.register_assert_rewrite("store.ledger.testing")` in a conftest.
"""

from store.ledger.testing.shared import SharedLedgerSuite
from store.ledger.testing.suite import LedgerSuite

__all__ = ["LedgerSuite", "SharedLedgerSuite"]
