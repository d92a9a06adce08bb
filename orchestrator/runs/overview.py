"""The page of all runs of a home: written when somebody asks for it, and from then on by every run that ends."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from orchestrator.callbacks import Callback
from orchestrator.runs.catalog import inventory_of
from store import overview
from store.home import Home
from store.ledger import Reading
from store.ledger.query_rows import RunRow, StudyRow
from store.overview.courses import RunCourse, Survey, courses


def write(home: Path, path: Path, wanted: Callable[[RunRow], bool] = lambda run: True) -> Survey:
    """Write the page of a home, or of the runs of it that are wanted; returns what is on it."""
    place, studies = Home(home, create=False), dict[str, StudyRow]()

    def read_all(read: Reading, only: Collection[str] | None) -> list[RunCourse]:
        studies.update({study.name: study for study in read.studies()})
        return courses(read, only)

    found = inventory_of(home, read_all)
    runs = [run for run in found.runs if wanted(run)]
    survey = Survey(runs, studies, found.problems, found.strays)
    overview.write(survey, place.path, path)
    return survey


def refresh(home: Home, watcher: Callback) -> None:
    """Write the page again where there is one. It shows what is durable already, so nothing about it costs a run."""
    path = home.path / overview.INDEX_FILE
    if not path.is_file():
        return
    try:
        write(home.path, path)
    except Exception as failed:
        watcher.event([f"{path} was not written ({failed}); `evergreen ls --html` tries again"])
