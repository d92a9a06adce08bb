"""What can go wrong in the store. Every message is for a person: what was found, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from store.secrets import without_logins


def did_you_mean(name: str, known: Iterable[str], most: int = 1) -> str:
    """Ask whether names like an unknown one were meant; nothing is like it: an empty text."""
    near = get_close_matches(name, list(known), most)
    return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


class StoreError(Exception):
    """Anything the store refuses to do. What its message quotes is without logins."""

    def __init__(self, message: str = "") -> None:
        super().__init__(without_logins(message))


class SecretError(StoreError):
    """A password is nowhere to be found."""


class HomeError(StoreError):
    """The home folder, or a name in it, cannot be used."""


class NameTaken(HomeError):
    """There is a run of this name."""


class RunBusy(StoreError):
    """Another process holds the run."""


class LedgerError(StoreError):
    """The ledger cannot be opened, read or written."""


class LedgerAway(LedgerError):
    """The ledger's database does not answer, or another process keeps it locked: later it may."""


class UnknownMetric(LedgerError):
    """A number was recorded under a name that `store.metrics` does not have."""


class CheckpointError(StoreError):
    """A checkpoint is incomplete, changed, or not the one expected."""


class ComparisonError(StoreError):
    """These runs cannot be compared, or not like this."""


class CannotFit(StoreError):
    """These points say nothing about the curve that is asked for."""


class TrackerError(StoreError):
    """MLflow is away, or does not take what it is given."""


class TrackerRefused(TrackerError):
    """A tracker's own library will not do what it is asked, now or later."""
