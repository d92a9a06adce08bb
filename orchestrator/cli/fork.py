"""fork: a new run begins at a boundary of another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.live import on_screen
from orchestrator.cli.options import DEFAULT_HOME, Home, RunName, Set, UntilStep
from orchestrator.cli.run import end
from orchestrator.os_signals import catching_signals


def fork(
    run: RunName,
    stage: Annotated[int, typer.Option(min=0, help="Begin at the boundary after this stage; 0: before any.")],
    spec: Annotated[
        Path | None, typer.Option("--spec", metavar="SPEC", help="A spec to use instead of the run's own.")
    ] = None,
    overrides: Set = None,
    home: Home = DEFAULT_HOME,
    until_step: UntilStep = None,
) -> None:
    """Begin a new run at a boundary of another, with its history and part of its spec changed.

    A fork keeps its parent's policy, evaluation and environments, and may name new ones:
    evergreen fork demo --stage 3 --set curriculum.scheduler=boltzmann --set environments.more=codebook
    """
    from orchestrator.runs.api import fork as begin

    with on_screen(home, goes_on=True) as screen, catching_signals(screen.stopping, is_urgent=True):
        outcome = begin(run, stage, spec, overrides or [], home, until_step, screen)
    end(outcome, home)
