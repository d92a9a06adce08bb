"""The report: a run as one HTML file that needs no network, no script and no other file.

It is made from the ledger alone, by `evergreen report` and by the trainer at every boundary.
"""

from __future__ import annotations

from pathlib import Path

from store.files import write_text
from store.ledger import Ledger

REPORT_FILE = "report.html"  # in a run's folder


def render(ledger: Ledger, folder: Path, name: str) -> str:
    """Write a run as an HTML page; `folder` is the run's own. An unknown run is a `LedgerError`."""
    from store.report.page import render as render_page
    from store.report.report_data import ReportData

    return render_page(ReportData(ledger, folder, name))


def write(ledger: Ledger, folder: Path, name: str, path: Path | None = None) -> Path:
    """Write a run's report, by default into its folder; a reader sees the old page or the new one."""
    path = path or folder / REPORT_FILE
    write_text(path, render(ledger, folder, name))
    return path
