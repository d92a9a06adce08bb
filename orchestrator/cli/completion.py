"""What a shell proposes after TAB: names of runs and studies, statuses, kinds and names of methods.

It must be quick, and silent whatever is wrong: a home that is not there or a damaged ledger propose nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import wraps
from pathlib import Path
from typing import Any
from urllib.parse import quote

import typer

from store.home import DATABASES, RESERVED, SLUG, STUDIES, Home

BUSY_S = 0.2  # for a ledger that is being written; folders tell most of what it would

Propose = Callable[[typer.Context, str], list[str]]


def _quietly(propose: Propose) -> Propose:
    """Propose what begins as the word does; nothing where that fails."""

    @wraps(propose)
    def quiet(context: typer.Context, incomplete: str) -> list[str]:
        try:
            return [word for word in propose(context, incomplete) if word.startswith(incomplete)]
        except Exception:  # an error would land in the middle of what somebody types
            return []

    return quiet


@_quietly
def run_names(context: typer.Context, incomplete: str) -> list[str]:
    """Propose the runs of the home: its folders, and what its own ledger has."""
    home = _home(context)
    folders = [path.name for path in home.path.iterdir() if path.is_dir() and SLUG.fullmatch(path.name)]
    taken = {word for value in context.params.values() if isinstance(value, list | tuple) for word in value}
    names = {name for name in (*folders, *_in_ledger(home, "run")) if name not in RESERVED and name[0] != "."}
    return sorted(names - taken)


@_quietly
def study_names(context: typer.Context, incomplete: str) -> list[str]:
    """Propose the studies of the home."""
    home = _home(context)
    folders = (home.path / STUDIES).iterdir() if (home.path / STUDIES).is_dir() else ()
    return sorted({*(path.name for path in folders if path.is_dir()), *_in_ledger(home, "study")})


@_quietly
def run_and_study_names(context: typer.Context, incomplete: str) -> list[str]:
    """Propose both."""
    return [*run_names(context, incomplete), *study_names(context, incomplete)]


@_quietly
def statuses(context: typer.Context, incomplete: str) -> list[str]:
    """Propose how runs may stand, the last of a list with commas too."""
    from store.run_status import STATUSES

    before = incomplete[: incomplete.rfind(",") + 1]
    return [f"{before}{one}" for one in STATUSES]


@_quietly
def method_kinds(context: typer.Context, incomplete: str) -> list[str]:
    """Propose kinds of methods."""
    from orchestrator.registry import kinds
    from policies.plugins import PARTS

    return [*kinds(), *PARTS]


@_quietly
def method_names(context: typer.Context, incomplete: str) -> list[str]:
    """Propose the methods of the kind that stands before."""
    from orchestrator.registry import listing

    return [method.name for method in listing(context.params["kind"])]


def _home(context: typer.Context) -> Home:
    return Home(context.params.get("home"), create=False)


def _in_ledger(home: Home, table: str) -> list[Any]:
    """Read the names in a table of the home's own ledger, without the layers that open it for work."""
    file: Path = home.path / DATABASES[0]
    if not file.is_file():
        return []
    with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", timeout=BUSY_S, uri=True)) as ledger:
        return [name for (name,) in ledger.execute(f"SELECT name FROM {table}")]
