"""Where MLflow may have a record of a run: each place is kept in the run's folder, as a later spec may name another."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from store.files import write_text
from store.home import sqlite_url
from store.logins import TRACKER_PASSWORD, with_login
from store.secrets import without_passwords
from store.tracker.record import Target

FILE = "mlflow-places.json"  # in a run's folder
_IN_HOME = "./"  # begins the name of a database in the home folder


def remember(folder: Path, target: Target) -> None:
    """Keep a place before anything is sent there, if the run's folder is there and can be written to."""
    known, place = _kept(folder), [_name(folder, target), target.experiment]
    if place not in known:
        with suppress(OSError):
            write_text(folder / FILE, json.dumps([*known, place]))


def earlier(folder: Path, now: Target | None) -> list[Target]:
    """Give the places of a run but the one that its spec names now. Raises `SecretError`."""
    places = [place for place in _kept(folder) if now is None or place != [_name(folder, now), now.experiment]]
    return [Target(_uri(folder, name), experiment, None) for name, experiment in places]


def _kept(folder: Path) -> list[list[str]]:
    try:
        return [[str(name), str(experiment)] for name, experiment in json.loads((folder / FILE).read_text())]
    except (OSError, TypeError, ValueError):
        return []


def _name(folder: Path, target: Target) -> str:
    """Name a database in the home folder by its file alone: in a copy of the home it is that of the copy."""
    database = target.database
    if database is not None and database.parent == folder.parent.absolute():
        return f"{_IN_HOME}{database.name}"
    return without_passwords(target.uri)


def _uri(folder: Path, name: str) -> str:
    if name.startswith(_IN_HOME):
        return sqlite_url(folder.parent.absolute() / name.removeprefix(_IN_HOME))
    return with_login(name, None, TRACKER_PASSWORD)
