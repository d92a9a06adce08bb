"""Where a run's record goes, and how MLflow is to behave in a process of ours."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import make_url

from store.secrets import without_logins

SERVERS = ("http://", "https://", "databricks")

MANNERS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
PATIENCE = {  # a server that is away is for our own pauses, not for minutes inside one call
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


@dataclass(frozen=True)
class Target:
    """A place for records."""

    uri: str  # an MLflow tracking URI
    experiment: str
    artifacts: str | None  # a URI for files; None: the server keeps them itself

    @property
    def is_server(self) -> bool:
        """Whether a server keeps it, rather than a database that we write to."""
        return is_server(self.uri)

    @property
    def database(self) -> Path | None:
        """The file of an SQLite database; None for everything else."""
        if not self.uri.startswith("sqlite:"):
            return None
        return Path(make_url(self.uri).database or "").absolute()

    def __str__(self) -> str:
        return without_logins(self.uri)


def is_server(uri: str) -> bool:
    """Whether a tracking URI names a server, which keeps files itself; else it names a database."""
    return uri.startswith(SERVERS)


def mind_manners() -> None:
    """Set MLflow's switches for this process and its children; before MLflow is imported."""
    os.environ.update(MANNERS)
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
