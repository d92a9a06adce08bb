"""run, resume, stop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from orchestrator.cli.options import DEFAULT_HOME, Home, RunName, Set, SpecFile, UntilStep, command

if TYPE_CHECKING:
    from orchestrator.running import Outcome


def run(
    spec: SpecFile, overrides: Set = None, home: Home = DEFAULT_HOME, until_step: UntilStep = None
) -> None:
    """Run a curriculum from a spec file.

    Ctrl-C finishes the step, saves, and prints how to go on; a second Ctrl-C kills. Running the same spec again
    makes a new run, NAME-2.
    """
    from orchestrator.cli.screen import Screen
    from orchestrator.running import run as start

    outcome = start(spec, overrides or [], home, until_step, Screen(home))
    _end(outcome, home)


def resume(
    run: RunName, overrides: Set = None, home: Home = DEFAULT_HOME, until_step: UntilStep = None
) -> None:
    """Go on with a stopped or killed run from its newest valid checkpoint.

    The run's own resolved spec is used; --set may change `resources`, `tracker` and `checkpoint` only.
    """
    from orchestrator.cli.screen import Screen
    from orchestrator.running import resume as go_on

    outcome = go_on(run, overrides or [], home, until_step, Screen(home))
    _end(outcome, home)


def stop(run: RunName, home: Home = DEFAULT_HOME) -> None:
    """Ask a run in another process to finish its step, save and stop."""
    from orchestrator.cli.console import out
    from orchestrator.runs import request_stop

    out.print(request_stop(run, home))


def _end(outcome: Outcome, home: Path) -> None:
    """Tell a finished run and how to look further; leave with the outcome's exit code."""
    from orchestrator.cli.console import out
    from orchestrator.cli.tables import print_story
    from orchestrator.runs import opened
    from store.story import tell

    if outcome.status == "finished":
        with opened(home, outcome.name) as (place, ledger):
            print_story(out, tell(ledger, place, outcome.name))
        out.print("\nGo on with")
        name = outcome.name
        for words, what in (
            (f"show {name}", "this again; --json for programs"),
            (f"show {name} --samples ENV --failed", "what the policy wrote, and its scores"),
            (f"weights {name} DIR", "the policy as a folder for transformers"),
            (f"resume {name}", "goes on with a run that was stopped or killed"),
            ("ls", "all runs"),
        ):
            out.print(f"  {command(words, home):<54}  {what}", markup=False)
    raise typer.Exit(outcome.exit_code)
