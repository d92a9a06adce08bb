"""stop, prune, rm, upgrade: what is done to the runs of a home folder. Loads no torch."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.completion import run_and_study_names, run_names
from orchestrator.cli.console import leaving, out, plain, print_json, problem
from orchestrator.cli.options import DEFAULT_HOME, AsJson, Home, RunName, command
from orchestrator.errors import UserError
from orchestrator.runs.catalog import request_stop, upgrade_ledgers
from store.errors import TrackerError
from store.secrets import url_without_logins
from store.sentences import listed, num, size_in_words

if TYPE_CHECKING:
    from orchestrator.runs.removal import Plan


def stop(run: RunName, home: Home = DEFAULT_HOME) -> None:
    """Ask a run in another process to finish its step, save and stop."""
    out.print(request_stop(run, home))


def prune(
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]...", help="Default: all runs.", autocompletion=run_names)
    ] = None,
    boundaries: Annotated[
        bool,
        typer.Option(
            "--boundaries",
            help="Also checkpoints of boundaries, but the newest and those that interventions of the run or its forks "
            "read: no fork from what goes.",
        ),
    ] = False,
    warm_starts: Annotated[
        bool,
        typer.Option("--warm-starts", help="Also the cache of warm starts; it is made again when needed."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Free disk: delete the checkpoints between boundaries, but never the one a run goes on from, and what diverged.

    What stays can be resumed, told and forked at every boundary. Runs in use are left alone; the ledger keeps all
    its rows.
    """
    from orchestrator.runs import pruning

    freed = pruning.prune(home, runs or [], boundaries, warm_starts, dry_run)
    if as_json:
        print_json([vars(one) for one in freed])
        return
    go = "would go" if dry_run else "deleted"
    for one in freed:
        what = f"skipped: {one.skipped}" if one.skipped else f"{one.num_items} {go}, {one.kept} kept"
        out.print(f"{one.what:<24} {size_in_words(one.num_bytes):>8}  {what}", markup=False)
    total = size_in_words(sum(one.num_bytes for one in freed))
    out.print(f"{total} {'would be' if dry_run else 'were'} freed in {home}", markup=False)


def rm(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN", help="Runs, or studies: with all their runs.", autocompletion=run_and_study_names
        ),
    ],
    is_sure: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    keeps_record: Annotated[
        bool, typer.Option("--keep-mlflow", help="Leave what MLflow, or another tracker, has of them.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go, and what stays.")] = False,
    home: Home = DEFAULT_HOME,
) -> None:
    """Remove runs: their folders and their rows in the ledger, and MLflow's record of them; asks first.

    A run in use is refused, and so is one that others need: its forks, its baseline, its study. Name those too, or the
    study. Files that Evergreen did not write stay. A removal that was interrupted is finished by the same command.
    """
    from orchestrator.runs import removal

    plan = removal.plan(home, names)
    print_removal(plan, keeps_record)
    if dry_run:
        return
    if not is_sure:
        if not sys.stdin.isatty():
            raise UserError("nobody is there to be asked: say --yes to remove them, --dry-run to look only")
        with leaving("nothing was removed"):
            if not typer.confirm("Remove this for good?"):
                out.print("Nothing was removed.")
                return
    again = command(f"rm {' '.join(names)}", home)
    with leaving(f"interrupted; the same command removes the rest: {again}"):
        for run in plan.runs:
            try:
                had_record = removal.remove(plan.home, run, keeps_record)
            except TrackerError as error:
                raise UserError(f"{error} {run.name} stays as it is. Say --keep-mlflow to leave the record") from error
            also = f" and from {listed(had_record)}" if had_record else ""
            if "MLflow" in had_record:
                also += "; MLflow keeps what it deletes until `mlflow gc`"
            out.print(f"removed {run.name}{also}", markup=False)
        for name, url in plan.studies:
            removal.remove_study(plan.home, name, url)
            out.print(f"removed the study {name}", markup=False)


def print_removal(plan: Plan, keeps_record: bool) -> None:
    """Say what goes with runs, and what stays."""
    for run in plan.runs:
        files = f"{size_in_words(run.num_bytes)} in {num(len(run.files), 'file')}" if run.files else "no files"
        rows = num(run.num_rows, "row") if run.num_rows else "no rows"
        out.print(f"{run.name}  {files}, {rows} in the ledger", markup=False)
        if run.strays:
            strays = plain(listed([str(path) for path in run.strays]))
            out.print(f"  its folder stays, with what is not Evergreen's: {strays}", markup=False)
    for name, _ in plan.studies:
        out.print(f"{name}  the study, with what its processes printed", markup=False)
    recorded = [run.name for run in plan.runs if run.has_tracker]
    record = (
        f" What the tracker has of {listed(recorded)} {'stays' if keeps_record else 'goes too'}." if recorded else ""
    )
    out.print(f"That frees {size_in_words(plan.num_bytes)} of disk.{record} Warm starts stay, for other runs.")


def upgrade(home: Home = DEFAULT_HOME) -> None:
    """Bring a ledger that an earlier Evergreen wrote up to date. Runs, rows and digests stay as they are."""
    upgraded, failures = upgrade_ledgers(home)
    for url in upgraded:
        out.print(f"{url_without_logins(url)} is up to date", markup=False)
    for failed in failures[:-1]:
        problem(str(failed))
    if failures:
        raise failures[-1]
