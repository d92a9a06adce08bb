"""upgrade: a ledger that an earlier Evergreen wrote is brought up to date."""

from __future__ import annotations

from orchestrator.cli.console import out
from orchestrator.cli.options import DEFAULT_HOME, Home
from orchestrator.runs.catalog import upgrade_ledgers
from store.secrets import without_logins


def upgrade(home: Home = DEFAULT_HOME) -> None:
    """Bring a ledger that an earlier Evergreen wrote up to date. Runs, rows and digests stay as they are."""
    for url in upgrade_ledgers(home):
        out.print(f"{without_logins(url)} is up to date", markup=False)
