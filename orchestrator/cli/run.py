"""run: a curriculum from a spec file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from orchestrator.cli.console import out, problem
from orchestrator.cli.live import on_screen
from orchestrator.cli.options import DEFAULT_HOME, Home, Set, SpecFile, UntilStep, command
from orchestrator.cli.tables import print_story
from orchestrator.os_signals import catching_signals
from orchestrator.runs.catalog import opened, refuse_run
from store.errors import LedgerAway
from store.report import REPORT_FILE
from store.run_story import tell

if TYPE_CHECKING:
    from orchestrator.runs.session import Outcome


def run(
    spec: SpecFile, overrides: Set = None, home: Home = DEFAULT_HOME, until_step: UntilStep = None
) -> None:
    """Run a curriculum from a spec file.

    Ctrl-C finishes the step, saves, and prints how to go on; a second Ctrl-C kills. Running the same spec again
    makes a new run, NAME-2.
    """
    from orchestrator.runs.api import run as start

    refuse_run(spec, home)
    with on_screen(home) as screen, catching_signals(screen.stopping, is_urgent=True):
        outcome = start(spec, overrides or [], home, until_step, screen)
    end(outcome, home)


def end(outcome: Outcome, home: Path) -> None:
    """Tell a finished run and how to look further; leave with the outcome's exit code."""
    if outcome.status != "finished":
        raise typer.Exit(outcome.exit_code)
    name, report = outcome.name, outcome.folder / REPORT_FILE
    try:
        with opened(home, name) as (place, ledger):
            print_story(out, tell(ledger, place, name))
    except LedgerAway as away:  # it is finished all the same
        problem(str(away))
    out.print("\nGo on with")
    here = report.relative_to(Path.cwd()) if report.is_relative_to(Path.cwd()) else report
    for words, what in (
        (str(here), "the report: open it in a browser"),
        (command("ui", home), "MLflow's pages: this run beside others"),
        (command(f"show {name}", home), "this again; --events, --json"),
        (command(f"show {name} --samples ENV --failed", home), "what the policy wrote, and its scores"),
        (command(f"resume {name} --stages N", home), "goes on, to more stages"),
        (command(f"fork {name} --stage N --set a.b=c", home), "a new run from a boundary of this one"),
        (command(f"weights {name} DIR", home), "the policy as a folder for transformers"),
    ):
        out.print(f"  {words:<54}  {what}", markup=False)
    raise typer.Exit(outcome.exit_code)
