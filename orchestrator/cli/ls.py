"""ls: the runs of a home folder. Loads no torch."""

from __future__ import annotations

from orchestrator.cli.console import err, out, print_json
from orchestrator.cli.options import DEFAULT_HOME, AsJson, Home
from orchestrator.cli.tables import table
from orchestrator.runs.catalog import inventory
from store.run_summary import status
from store.sentences import listed


def ls(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """List the runs of a home folder, oldest first."""
    found = inventory(home)
    runs = [{**vars(run), "status": status(run.status, home.expanduser() / run.name)} for run in found.runs]
    for text in found.problems:
        err.print(f"! {text}", style="yellow", markup=False)
    if as_json:
        print_json(runs)
    elif runs:
        made = table("", "run", "status", "steps", "objective", "bandit", "model", "seed", "begun")
        for run in runs:
            cells = (
                run[key] for key in ("name", "status", "num_steps", "objective", "bandit", "model", "seed")
            )
            made.add_row(*map(str, cells), run["created_at"][5:16].replace("T", " "))
        out.print(made)
    elif not found.strays:
        out.print(f"No runs in {home} yet. `evergreen run SPEC` makes one.")
    if found.strays:
        text = f"Not in the ledger, though the folder is here: {listed(found.strays)};"
        err.print(f"{text} `evergreen resume RUN` enters it again.", markup=False)
