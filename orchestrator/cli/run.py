"""run, resume, fork, stop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import DEFAULT_HOME, Home, RunName, Set, SpecFile, UntilStep, command

if TYPE_CHECKING:
    from orchestrator.runs.session import Outcome


def run(
    spec: SpecFile, overrides: Set = None, home: Home = DEFAULT_HOME, until_step: UntilStep = None
) -> None:
    """Run a curriculum from a spec file.

    Ctrl-C finishes the step, saves, and prints how to go on; a second Ctrl-C kills. Running the same spec again
    makes a new run, NAME-2.
    """
    from orchestrator.cli.live import on_screen
    from orchestrator.os_signals import catching_signals
    from orchestrator.runs.api import run as start
    from orchestrator.runs.catalog import refuse_run

    refuse_run(spec, home)
    with on_screen(home) as screen, catching_signals(screen.stopping, is_urgent=True):
        outcome = start(spec, overrides or [], home, until_step, screen)
    _end(outcome, home)


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
    from orchestrator.cli.console import problem
    from orchestrator.cli.live import on_screen
    from orchestrator.errors import RESUMABLE
    from orchestrator.os_signals import Interrupted, catching_signals
    from orchestrator.runs.api import resume as go_on
    from store.errors import LedgerAway
    from store.storage import refusal

    try:
        with on_screen(home, goes_on=True) as screen, catching_signals(screen.stopping, is_urgent=True):
            outcome = go_on(run, overrides or [], home, until_step, screen, stages)
    except LedgerAway as away:
        problem(f"{away} {run} stays as it is. Go on with: {command(f'resume {run}', home)}")
        raise typer.Exit(RESUMABLE) from None
    except (Interrupted, OSError) as cause:
        why = str(cause) if isinstance(cause, Interrupted) else refusal(cause)
        if why is None:
            raise
        problem(f"{why}, before {run} went on; it is as it was. Go on with: {command(f'resume {run}', home)}")
        raise typer.Exit(RESUMABLE) from None
    _end(outcome, home)


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
    from orchestrator.cli.live import on_screen
    from orchestrator.os_signals import catching_signals
    from orchestrator.runs.api import fork as begin

    with on_screen(home, goes_on=True) as screen, catching_signals(screen.stopping, is_urgent=True):
        outcome = begin(run, stage, spec, overrides or [], home, until_step, screen)
    _end(outcome, home)


def stop(run: RunName, home: Home = DEFAULT_HOME) -> None:
    """Ask a run in another process to finish its step, save and stop."""
    from orchestrator.cli.console import out
    from orchestrator.runs.catalog import request_stop

    out.print(request_stop(run, home))


def _shortest(path: Path) -> str:
    """Write a path from here if it is below here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _end(outcome: Outcome, home: Path) -> None:
    """Tell a finished run and how to look further; leave with the outcome's exit code."""
    from orchestrator.cli.console import out, problem
    from orchestrator.cli.tables import print_story
    from orchestrator.runs.catalog import opened
    from store.errors import LedgerAway
    from store.report import REPORT_FILE
    from store.run_summary import facts_with_digests

    if outcome.status == "finished":
        try:
            with opened(home, outcome.name) as (place, ledger):
                print_story(out, facts_with_digests(ledger, place, outcome.name))
        except LedgerAway as away:  # it is finished all the same
            problem(str(away))
        out.print("\nGo on with")
        name = outcome.name
        lines = [(_shortest(outcome.folder / REPORT_FILE), "the report: open it in a browser")]
        lines += [
            (command(words, home), what)
            for words, what in (
                ("ui", "MLflow's pages: this run beside others"),
                (f"show {name}", "this again; --events, --json"),
                (f"show {name} --samples ENV --failed", "what the policy wrote, and its scores"),
                (f"resume {name} --stages N", "goes on, to more stages"),
                (f"fork {name} --stage N --set a.b=c", "a new run from a boundary of this one"),
                (f"weights {name} DIR", "the policy as a folder for transformers"),
            )
        ]
        for words, what in lines:
            out.print(f"  {words:<54}  {what}", markup=False)
    raise typer.Exit(outcome.exit_code)
