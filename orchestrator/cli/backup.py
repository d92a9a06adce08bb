"""backup and restore: a home copied while its runs go on, and made again. Loads no torch."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.console import every_few_seconds, leaving, out
from orchestrator.cli.options import DEFAULT_HOME, Home, command
from orchestrator.runs.catalog import ledgers_elsewhere
from store import backup as store_backup
from store.home import Home as HomeFolder
from store.sentences import listed, num, size_in_words

FOLDER = Annotated[Path, typer.Argument(metavar="FOLDER", help="The backup's folder.", show_default=False)]


def backup(folder: FOLDER, home: Home = DEFAULT_HOME) -> None:
    """Copy a home into a folder while its runs go on, or bring such a copy up to date.

    The copy is of one moment: ledger, MLflow's database, and the checkpoints that they name, each compared with its
    checksums. A second time what is new is copied, and what no longer is as it was copied; runs that were removed
    from the home stay in the copy.
    Databases of servers (PostgreSQL, MLflow) are not in it: they have backups of their own.
    """
    place = HomeFolder(home, create=False)
    with leaving("the backup is not whole; the same command goes on with it"):
        made = store_backup.back_up(place.path, folder, every_few_seconds("copying "))
    out.print(f"{num(made.runs, 'run')}, {size_in_words(made.num_bytes)}, in {folder}: as of {made.at}", markup=False)
    if made.gone:
        out.print(f"in the backup and not in the home any more: {listed(list(made.gone))}", markup=False)
    if made.damaged:
        out.print(f"damaged in the home, and not in the backup: {listed(list(made.damaged))}", markup=False)
    for url, runs in ledgers_elsewhere(place).items():
        out.print(
            f"not in it: {url}, the ledger of {listed(runs)}. Save it with its own tools, as with pg_dump", markup=False
        )
    restoring = command(f"restore {shlex.quote(str(folder))} --home NEW", DEFAULT_HOME)
    out.print(f"Make a home of it: {restoring}", markup=False)


def restore(folder: FOLDER, home: Home = DEFAULT_HOME) -> None:
    """Make a home of a backup, in a folder that is empty or not there yet.

    Every checksum is compared before anything is made. Runs that went on when the backup was made are there as if they
    had been killed then: `resume` goes on with them.
    """
    with leaving("nothing was made"):
        made = store_backup.restore(folder, home, every_few_seconds("checking "))
    out.print(f"{num(made.runs, 'run')} in {home}, as of {made.at}", markup=False)
    out.print(f"Look at it: {command('ls', home)}; {command('doctor', home)}", markup=False)
