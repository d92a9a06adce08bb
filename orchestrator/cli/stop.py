"""stop: a run in another process saves and stops."""

from __future__ import annotations

from orchestrator.cli.console import out
from orchestrator.cli.options import DEFAULT_HOME, Home, RunName
from orchestrator.runs.catalog import request_stop


def stop(run: RunName, home: Home = DEFAULT_HOME) -> None:
    """Ask a run in another process to finish its step, save and stop."""
    out.print(request_stop(run, home))
