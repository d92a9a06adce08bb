"""The overview: all runs of a home as one HTML file, made from its ledgers, with links to what is beside it.

courses.py   runs with the course of accuracy and entropy over their stages, read a ledger at a time
page.py      the page
"""

from __future__ import annotations

from pathlib import Path

from store.files import write_text
from store.overview.courses import RunCourse, Survey

INDEX_FILE = "index.html"  # in a home folder: the page that runs write again


def write(survey: Survey, home: Path, path: Path) -> None:
    """Write the page; a reader sees the old one or the new one. Links are relative to where it is written."""
    from store.overview.page import render

    write_text(path, render(survey, home, path, is_kept=path.absolute() == home / INDEX_FILE))


__all__ = ["INDEX_FILE", "RunCourse", "Survey", "write"]
