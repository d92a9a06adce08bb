"""How a run stands: what the ledger says of it, and what its folder knows better."""

from __future__ import annotations

from pathlib import Path

from store.identity import is_half_removed
from store.lock import holder

STATUSES = ("running", "stopped", "finished", "failed", "killed", "removing")


def status(recorded: str, folder: Path) -> str:
    """Say how a run stands; one that says it runs while nobody holds it was killed."""
    if is_half_removed(folder):
        return "removing"
    return "killed" if recorded == "running" and holder(folder) is None else recorded
