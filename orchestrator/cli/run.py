"""run, resume, fork: a run begins or goes on, and is told at its end."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, ParamSpec

import typer

from orchestrator.cli.console import out, problem
from orchestrator.cli.options import DEFAULT_HOME, Home, NumRanks, RunName, Set, SpecFile, UntilStep, command
from orchestrator.cli.screen import on_screen
from orchestrator.cli.tables import print_ending
from orchestrator.errors import KILLED, OUR_FAULT, RESUMABLE, UserError
from orchestrator.os_signals import REPEATED, Interrupted
from orchestrator.runs.catalog import opened, refuse_run
from orchestrator.runs.tracker_process import jobs
from policies.launchers import LaunchedProcess, hold_signals
from store.errors import LedgerAway, NameTaken, RunBusy
from store.files import refusal
from store.report import REPORT_FILE
from store.run_summary import facts
from store.sentences import listed

if TYPE_CHECKING:
    from orchestrator.runs.session import Outcome
    from store.tracker.daemon import TrackerJob


P = ParamSpec("P")

WIDEST_WAY = 54  # columns of a way to go on; a longer one moves its own line alone


def with_launched_ranks(verb: Callable[P, None]) -> Callable[P, None]:
    """Under a launcher, have rank 0 do what the verb says, and the other processes make its updates with it."""

    @wraps(verb)
    def do(*args: P.args, **kwargs: P.kwargs) -> None:
        process = LaunchedProcess.from_environment(os.environ)
        if process is None:
            verb(*args, **kwargs)
            return
        if (asked := kwargs.get("ranks")) not in (None, process.size):  # told by all: none has to be waited for
            raise UserError(f"--ranks {asked}, but the launcher started {process.size} processes: leave --ranks out")
        hold_signals()  # until the others can be told: what is imported for that takes seconds
        if process.rank:
            from policies.follower import follow_launched

            raise typer.Exit(follow_launched(process))
        from orchestrator.runs.ranks import leading_launched

        with leading_launched(process, _exit_code_of):
            verb(*args, **kwargs)

    return do


def _exit_code_of(error: BaseException) -> int:
    """Say with what this process will exit."""
    from orchestrator.cli.app import words_of

    if isinstance(error, typer.Exit):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return error.at_start()[1] if isinstance(error, Interrupted) else KILLED
    said = words_of(error) if isinstance(error, Exception) else None
    return OUR_FAULT if said is None else said[1]


@with_launched_ranks
def run(
    spec: SpecFile,
    overrides: Set = None,
    home: Home = DEFAULT_HOME,
    until_step: UntilStep = None,
    if_there: Annotated[
        bool, typer.Option(REPEATED, help="Go on with the run of this name and spec, if there is one.")
    ] = False,
    ranks: NumRanks = None,
) -> None:
    """Run a curriculum from a spec file.

    Ctrl-C finishes the step, saves, and prints how to go on; a second Ctrl-C kills. Running the same spec again
    makes a new run, NAME-2, or with --resume-if-there goes on with the first: one command to start and to restart.
    """
    from orchestrator.runs.api import run as start

    refuse_run(spec, home)
    overrides = _with_ranks(overrides, ranks)
    if if_there:
        try:
            _begin_or_go_on(spec, overrides, home, until_step)
        except RunBusy as busy:  # the process before may still save, or its machine be lost and its lock not yet
            problem(str(busy))
            raise typer.Exit(RESUMABLE) from None
    with on_screen(home) as screen:
        outcome = start(spec, overrides, home, until_step, screen)
    end(outcome, home)


def _begin_or_go_on(spec: Path, overrides: list[str], home: Path, until_step: int | None) -> NoReturn:
    from orchestrator.runs.api import find_run, run
    from orchestrator.spec import load_spec

    if (found := find_run(spec, overrides, home)) is None:
        try:
            with on_screen(home) as screen:
                outcome = run(spec, overrides, home, until_step, screen, name=load_spec(spec, overrides).name)
            end(outcome, home)
        except NameTaken:  # the same command was given twice in a moment
            if (found := find_run(spec, overrides, home)) is None:
                raise
    _go_on(*found, home, until_step)


def _with_ranks(overrides: list[str] | None, ranks: int | None) -> list[str]:
    process = LaunchedProcess.from_environment(os.environ)
    if process is not None:
        ranks = process.size
    return [*(overrides or []), *([] if ranks is None else [f"resources.ranks={ranks}"])]


def end(outcome: Outcome, home: Path) -> NoReturn:
    """Tell a finished run on a screen, and how to look further; leave with the outcome's exit code."""
    if outcome.status != "finished":
        raise typer.Exit(outcome.exit_code)
    try:
        _tell_how_it_ended(outcome, home)
    except Interrupted as signal:  # what is said is there to be asked for again
        problem(f"ended by {signal}; {outcome.name} is finished, and {command(f'show {outcome.name}', home)} tells it")
    raise typer.Exit(outcome.exit_code)


def _tell_how_it_ended(outcome: Outcome, home: Path) -> None:
    name, report = outcome.name, outcome.folder / REPORT_FILE
    records: list[TrackerJob] = []
    environment = "ENV"
    try:
        with opened(home, name) as (place, ledger):
            records = jobs(place, name)
            found = facts(ledger, place.run_folder(name), name)
            environment = next(iter(found["environments"]), environment)
            print_ending(out, found)
    except LedgerAway as away:  # it is finished all the same
        problem(str(away))
    out.print("\nGo on with")
    here = report.relative_to(Path.cwd()) if report.is_relative_to(Path.cwd()) else report
    ways = (
        (command(f"show {name}", home), "all of its tables; --events, --json"),
        (str(here), "the report: open it in a browser"),
        *((command("ui", home), _where_records_are(one)) for one in records),
        (command(f"show {name} --samples {environment} --failed", home), "what the policy wrote"),
        (command(f"resume {name} --stages N", home), "goes on, to more stages"),
        (command(f"fork {name} --stage N --set a.b=c", home), "a new run from a boundary"),
        (command(f"weights {name} DIR", home), "the policy, for transformers"),
    )
    width = min(WIDEST_WAY, max(len(words) for words, _ in ways))
    for words, what in ways:
        out.print(f"  {words:<{width}}  {what}", markup=False)


def _where_records_are(job: TrackerJob) -> str:
    """Say what `evergreen ui` does for a run: it opens MLflow, and of other places it says where they are."""
    if job.target is not None:
        return "this run beside others, in MLflow"
    return f"where this run is beside others, in {listed([to.name for to in job.also])}"


@with_launched_ranks
def resume(
    run: RunName,
    overrides: Set = None,
    home: Home = DEFAULT_HOME,
    until_step: UntilStep = None,
    stages: Annotated[
        int | None, typer.Option(min=1, help="So many stages in all: lengthens a finished run too.")
    ] = None,
    ranks: NumRanks = None,
    copy: Annotated[
        str | None,
        typer.Option("--from", metavar="URL", help="Fetch the run first, from where checkpoint.copy_to copied it."),
    ] = None,
) -> None:
    """Go on with a stopped or killed run from its newest valid checkpoint.

    The spec is the one that the ledger keeps of the run, whatever its spec.yaml says; --set may change `resources`,
    `tracker` and `checkpoint` only. A run that the ledger lacks, or is behind with, is entered again from its folder.
    """
    _go_on(run, _with_ranks(overrides, ranks), stages, home, until_step, copy)


def _go_on(
    run: str, overrides: list[str], stages: int | None, home: Path, until_step: int | None, copy: str | None = None
) -> NoReturn:
    from environments.contracts import ServersAway
    from orchestrator.runs.api import resume as go_on

    again = command(f"resume {run}", home)
    try:
        with on_screen(home, goes_on=True) as screen:
            outcome = go_on(run, overrides, home, until_step, screen, stages, copy=copy)
    except LedgerAway as away:
        problem(f"{away} {run} stays as it is. Go on with: {again}")
        raise typer.Exit(RESUMABLE) from None
    except ServersAway as away:  # they were right when the run began, and may be up later than it
        problem(f"{away}. {run} is as it was. Go on with: {again}")
        raise typer.Exit(RESUMABLE) from None
    except (Interrupted, OSError) as cause:
        why = str(cause) if isinstance(cause, Interrupted) else refusal(cause)
        if why is None:
            raise
        problem(f"{why}, before {run} went on; it is as it was. Go on with: {again}")
        raise typer.Exit(RESUMABLE) from None
    end(outcome, home)


@with_launched_ranks
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

    with on_screen(home, goes_on=True) as screen:
        outcome = begin(run, stage, spec, _with_ranks(overrides, None), home, until_step, screen)
    end(outcome, home)
