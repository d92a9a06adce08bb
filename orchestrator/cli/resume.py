"""resume: a stopped or killed run goes on."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.console import problem
from orchestrator.cli.live import on_screen
from orchestrator.cli.options import DEFAULT_HOME, Home, RunName, Set, UntilStep, command
from orchestrator.cli.run import end
from orchestrator.errors import RESUMABLE
from orchestrator.os_signals import Interrupted, catching_signals
from store.errors import LedgerAway
from store.storage import refusal


def resume(
    run: RunName,
    overrides: Set = None,
    home: Home = DEFAULT_HOME,
    until_step: UntilStep = None,
    stages: Annotated[
        int | None, typer.Option(min=1, help="So many stages in all: lengthens a finished run too.")
    ] = None,
) -> None:
    """Go on with a stopped or killed run from its newest valid checkpoint.

    The spec is the one that the ledger keeps of the run, whatever its spec.yaml says; --set may change `resources`,
    `tracker` and `checkpoint` only. A run that the ledger lacks, or is behind with, is entered again from its folder.
    """
    from orchestrator.runs.api import resume as go_on

    again = command(f"resume {run}", home)
    try:
        with on_screen(home, goes_on=True) as screen, catching_signals(screen.stopping, is_urgent=True):
            outcome = go_on(run, overrides or [], home, until_step, screen, stages)
    except LedgerAway as away:
        problem(f"{away} {run} stays as it is. Go on with: {again}")
        raise typer.Exit(RESUMABLE) from None
    except (Interrupted, OSError) as cause:
        why = str(cause) if isinstance(cause, Interrupted) else refusal(cause)
        if why is None:
            raise
        problem(f"{why}, before {run} went on; it is as it was. Go on with: {again}")
        raise typer.Exit(RESUMABLE) from None
    end(outcome, home)
