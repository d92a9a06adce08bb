"""ls, show, weights: what the ledger and the checkpoints say. None of these loads torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.cli.options import DEFAULT_HOME, AsJson, Home, RunName

FOLLOWED_S = 600.0  # for a ledger that is away, while somebody follows a run


def ls(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """List the runs of a home folder, oldest first."""
    from orchestrator.cli.console import err, out, print_json
    from orchestrator.cli.tables import runs_table
    from orchestrator.runs.catalog import inventory
    from store.run_story import status
    from store.sentences import listed

    found = inventory(home)
    runs = [{**vars(run), "status": status(run.status, home.expanduser() / run.name)} for run in found.runs]
    for text in found.problems:
        err.print(f"! {text}", style="yellow", markup=False)
    if as_json:
        print_json(runs)
    elif runs:
        out.print(runs_table(runs))
    elif not found.strays:
        out.print(f"No runs in {home} yet. `evergreen run SPEC` makes one.")
    if found.strays:
        text = f"Not in the ledger, though the folder is here: {listed(found.strays)};"
        err.print(f"{text} `evergreen resume RUN` enters it again.", markup=False)


def show(
    run: RunName,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
    samples: Annotated[
        str | None, typer.Option(metavar="ENV", help="Print kept completions of an environment instead.")
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only completions that are not correct.")] = False,
    stage: Annotated[int | None, typer.Option(help="Only completions of this stage's training.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many completions.")] = 20,
    events: Annotated[
        bool, typer.Option("--events", help="Print what was decided and what went wrong instead, in order.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="Watch it go, also in another process, until it ends.")
    ] = False,
) -> None:
    """Tell a run: what was learnt, what it cost in entropy, what the bandits did, what went wrong.

    With --samples, print completions with their scores, newest first. With --events, every decision and incident.
    With --follow, the live view until the run ends; Ctrl-C leaves the run alone.
    """
    from orchestrator.cli.console import err, out, print_json
    from orchestrator.cli.ledger_follower import follow as follow_run
    from orchestrator.cli.tables import print_events, print_samples, print_story
    from orchestrator.errors import UserError
    from orchestrator.runs.catalog import find_run, known_environment, opened
    from store.ledger.patience import Patience
    from store.run_story import tell

    if follow and as_json:
        raise UserError("--follow is for looking; a program asks `show RUN --json` as often as it likes")

    patience = Patience(FOLLOWED_S, lambda text: err.print(text, markup=False)) if follow else None
    with opened(home, run, patience) as (place, ledger):
        find_run(ledger, run)
        if samples is not None:
            known_environment(ledger, run, samples)
            kept: list[Any] = ledger.reading.samples(run, samples, failed, stage, limit)
            print_json([vars(sample) for sample in kept]) if as_json else print_samples(out, kept)
            return
        if events:
            listed = ledger.reading.events(run)
            print_json([vars(event) for event in listed]) if as_json else print_events(out, listed)
            return
        if follow:
            follow_run(ledger, place, run, home)
            return
        story = tell(ledger, place, run)
    print_json(story) if as_json else print_story(out, story)


def weights(
    run: RunName,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder to make.")],
    stage: Annotated[
        int | None, typer.Option(help="The policy after this stage; default: the newest checkpoint.")
    ] = None,
    home: Home = DEFAULT_HOME,
) -> None:
    """Copy a policy's weights and tokenizer out, in the layout that transformers' from_pretrained reads."""
    from orchestrator.cli.console import out
    from orchestrator.errors import UserError
    from orchestrator.runs.catalog import export_weights, opened

    with opened(home, run) as (place, ledger):
        try:
            export_weights(ledger, place, run, stage, folder)
        except OSError as failed:
            raise UserError(f"{folder} cannot be written: {failed.strerror or failed}") from failed
    out.print(f'Weights are in {folder}: AutoModelForCausalLM.from_pretrained("{folder}") loads them.')
