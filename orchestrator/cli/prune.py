"""prune: checkpoints that are no longer needed are deleted."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.console import out, print_json
from orchestrator.cli.options import DEFAULT_HOME, AsJson, Home
from orchestrator.runs import pruning
from orchestrator.runs.dry_run import size_in_words


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
