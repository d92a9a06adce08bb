"""report: a run as one page to look at. Loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.console import say_where, write_page
from orchestrator.cli.options import DEFAULT_HOME, Home, RunName
from orchestrator.runs.catalog import find_run, opened
from store.report import REPORT_FILE, write


def report(
    run: RunName,
    file: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Where to; default: report.html in the run's folder."
        ),
    ] = None,
    home: Home = DEFAULT_HOME,
) -> None:
    """Write a run as one HTML file: what was learnt, what it cost in entropy, who chose what, samples, incidents.

    The file needs no network and runs no script. A run writes its own at every boundary.
    """
    with opened(home, run) as (place, ledger):
        find_run(ledger, run)
        folder = place.run_folder(run)
        target = file or folder / REPORT_FILE
        write_page(target, "report", lambda path: write(ledger, folder, run, path))
    say_where(target)
