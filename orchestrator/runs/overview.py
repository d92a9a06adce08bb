"""The page of all runs of a home: written when somebody asks for it, and from then on by every run that ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from orchestrator.callbacks import Callback
from orchestrator.runs.catalog import inventory
from store import overview
from store.courses import RunCourse
from store.home import Home


def write(home: Path, path: Path, wanted: Callable[[RunCourse], bool] = lambda run: True) -> None:
    """Write the page of a home, or of the runs of it that are wanted."""
    found = inventory(home)
    found = replace(found, runs=[run for run in found.runs if wanted(run)])
    overview.write(found, Home(home, create=False).path, path)


def refresh(home: Home, watcher: Callback) -> None:
    """Write the page again where there is one. It shows what is durable already, so nothing about it costs a run."""
    path = home.path / overview.INDEX_FILE
    if not path.is_file():
        return
    try:
        write(home.path, path)
    except Exception as failed:
        watcher.event([f"{path} was not written ({failed}); `evergreen ls --html` tries again"])
