"""A run whose files cannot be written: why it stops, and what of it is safe."""

from __future__ import annotations

from pathlib import Path

from environments import EnvironmentFault
from orchestrator.errors import EvergreenError
from policies.errors import PolicyError
from store.errors import StoreError
from store.ledger.queries import Reading
from store.storage import refusal


def reason(error: Exception, reading: Reading, name: str, folder: Path) -> str | None:
    """Say why a run stops when an error comes from a disk that takes no more; None: the error is another."""
    said = None if isinstance(error, EnvironmentFault | EvergreenError | PolicyError) else refusal(error)
    if said is None:
        return None
    where = "" if "cannot be written" in said else f"{folder} cannot be written: "
    return f"{where}{said}. {_safe(reading, name)}"


def _safe(reading: Reading, name: str) -> str:
    """Say from where the run goes on; a ledger on the same disk may be unreadable, too."""
    try:
        records = reading.checkpoints(name)
    except StoreError:
        return "Nothing that was saved is lost"
    if not records:
        return "It has no checkpoint yet and will begin at step 0"
    return f"Nothing is lost: the newest checkpoint is of step {records[0].step}"
