"""The ledger: what every run did, in SQL. Write with `Ledger`, ask with `Ledger.reading`."""

from store.ledger.ledger import Ledger, Status
from store.ledger.names import RunHandle
from store.ledger.queries import Reading

__all__ = ["Ledger", "Reading", "RunHandle", "Status"]
