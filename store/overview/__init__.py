"""The overview: all runs of a home as one HTML file, made from its ledgers, with links to what is beside it."""

from __future__ import annotations

from pathlib import Path

from store.courses import Inventory
from store.files import write_text

INDEX_FILE = "index.html"  # in a home folder: the page that runs write again


def write(found: Inventory, home: Path, path: Path) -> None:
    """Write the page; a reader sees the old one or the new one. Links are relative to where it is written."""
    from store.overview.page import render

    write_text(path, render(found, home, path, is_kept=path.absolute() == home / INDEX_FILE))


__all__ = ["INDEX_FILE", "write"]
