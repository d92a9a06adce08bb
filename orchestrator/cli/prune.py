"""prune, upgrade: looking after a home folder."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.options import DEFAULT_HOME, AsJson, Home


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
    from orchestrator.cli.console import out, print_json
    from orchestrator.runs.dry_run import size_in_words
    from orchestrator.runs.pruning import prune as delete

    freed = delete(home, runs or [], boundaries, warm_starts, dry_run)
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
    from orchestrator.cli.console import out
    from orchestrator.runs.catalog import upgrade_ledgers
    from store.secrets import without_logins

    for url in upgrade_ledgers(home):
        out.print(f"{without_logins(url)} is up to date", markup=False)
