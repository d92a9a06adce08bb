"""ls, stop, prune, upgrade: what a home folder holds. Loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.console import err, out, print_json, say_where, write_page
from orchestrator.cli.options import DEFAULT_HOME, AsJson, Home, RunName
from orchestrator.cli.tables import table
from orchestrator.runs.catalog import inventory, request_stop, upgrade_ledgers
from store.run_summary import status
from store.secrets import without_logins
from store.sentences import listed, size_in_words


def ls(
    home: Home = DEFAULT_HOME,
    html: Annotated[
        bool, typer.Option("--html", help="Write them as one HTML page, index.html in the home folder.")
    ] = False,
    file: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to, with --html.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the runs of a home folder, oldest first.

    With --html they are one page that needs no network and runs no script: every run with its course of accuracy and
    entropy, and links to its report and to MLflow. Once it is there, every run that ends writes it again.
    """
    if html or file is not None:
        write_index(home, file, as_json)
        if not as_json:
            return
    found = inventory(home)
    runs = [{**vars(run), "status": status(run.status, home.expanduser() / run.name)} for run in found.runs]
    for text in found.problems:
        err.print(f"! {text}", style="yellow", markup=False)
    if as_json:
        print_json(runs)
    elif runs:
        made = table("", "run", "status", "steps", "objective", "bandit", "model", "seed", "begun")
        for run in runs:
            cells = (run[key] for key in ("name", "status", "num_steps", "objective", "bandit", "model", "seed"))
            made.add_row(*map(str, cells), run["created_at"][5:16].replace("T", " "))
        out.print(made)
    elif not found.strays:
        out.print(f"No runs in {home} yet. `evergreen run SPEC` makes one.")
    if found.strays:
        text = f"Not in the ledger, though the folder is here: {listed(found.strays)};"
        err.print(f"{text} `evergreen resume RUN` enters it again.", markup=False)


def write_index(home: Path, file: Path | None, as_json: bool) -> None:
    """Write the page of a home's runs, and say where it is."""
    from orchestrator.runs import overview
    from store.overview import INDEX_FILE

    target = file or home.expanduser() / INDEX_FILE
    write_page(target, "index", lambda path: overview.write(home, path))
    say_where(target, as_json)


def stop(run: RunName, home: Home = DEFAULT_HOME) -> None:
    """Ask a run in another process to finish its step, save and stop."""
    out.print(request_stop(run, home))


def prune(
    runs: Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help="Default: all runs.")] = None,
    boundaries: Annotated[
        bool,
        typer.Option("--boundaries", help="Also checkpoints of boundaries but the newest: no fork then."),
    ] = False,
    warm_starts: Annotated[
        bool,
        typer.Option("--warm-starts", help="Also the cache of warm starts; it is made again when needed."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Free disk: delete the checkpoints between boundaries, but never a run's newest one.

    What stays can be resumed, told and forked at every boundary. Runs in use are left alone; the ledger keeps all
    its rows.
    """
    from orchestrator.runs import pruning

    freed = pruning.prune(home, runs or [], boundaries, warm_starts, dry_run)
    if as_json:
        print_json([vars(one) for one in freed])
        return
    go, stay = ("would go", "would stay") if dry_run else ("deleted", "stay")
    for one in freed:
        what = f"skipped: {one.skipped}" if one.skipped else f"{one.num_items} {go}, {one.kept} {stay}"
        out.print(f"{one.what:<24} {size_in_words(one.num_bytes):>8}  {what}", markup=False)
    total = size_in_words(sum(one.num_bytes for one in freed))
    out.print(f"{total} {'would be' if dry_run else 'were'} freed in {home}", markup=False)


def upgrade(home: Home = DEFAULT_HOME) -> None:
    """Bring a ledger that an earlier Evergreen wrote up to date. Runs, rows and digests stay as they are."""
    for url in upgrade_ledgers(home):
        out.print(f"{without_logins(url)} is up to date", markup=False)
