"""Every run of a home folder, whichever ledgers they are in. Nothing here loads torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import make_url

from orchestrator.errors import UserError
from orchestrator.locations import completed_ledger_url
from orchestrator.runs.catalog import SPEC_FILE, is_stray, sections_of
from store.errors import StoreError
from store.home import Home
from store.ledger import Ledger
from store.ledger.query_rows import RunRow


@dataclass(frozen=True)
class Inventory:
    """What there is, and what could not be looked at."""

    runs: list[RunRow]  # oldest first
    problems: list[str]  # a sentence for every ledger that is away, with the runs that are missing here
    strays: list[str]  # runs whose folders are here and that the home's ledger should know and does not


def inventory(path: Path) -> Inventory:
    """List the runs of the home's own ledger, and those in its folders whose specs name another one.

    A ledger that cannot be read is a problem beside the others; if there are no others, it is raised.
    """
    home = Home(path, create=False)
    failures: list[StoreError | UserError] = []
    problems: list[str] = []
    runs: list[RunRow] = []
    is_away = False  # the home's own ledger

    def look(url: str, names: list[str] | None = None) -> None:
        nonlocal is_away
        try:
            with Ledger.open(url, create=False) as ledger:
                runs.extend(run for run in ledger.reading.runs() if names is None or run.name in names)
        except StoreError as failed:
            is_away |= url == home.ledger_url
            failures.append(failed)
            problems.append(f"{failed} Not listed: {', '.join(names or ['what is in it'])}.")

    specs = sorted(home.path.glob(f"*/{SPEC_FILE}"))
    if (home.path / "evergreen.db").exists() or not specs:
        look(home.ledger_url)
    known = {run.name for run in runs}
    elsewhere: dict[str, list[str]] = {}
    for spec in specs:
        name = spec.parent.name
        try:
            url = (
                home.ledger_url if name in known else completed_ledger_url(sections_of(spec), home.ledger_url)
            )
        except (StoreError, UserError) as failed:
            failures.append(failed)
            problems.append(f"{failed} Not listed: {name}.")
        else:
            if url != home.ledger_url:
                elsewhere.setdefault(url, []).append(name)
    for url, names in elsewhere.items():
        look(url, names)
    if failures and not runs:
        raise failures[-1]
    known = {run.name for run in runs}
    own = make_url(home.ledger_url)
    folders = [] if is_away else sorted(home.path.iterdir())
    strays = [folder.name for folder in folders if is_stray(home, own, folder, known)]
    return Inventory(sorted(runs, key=lambda run: run.created_at), problems, strays)
