"""ls, show, weights: what the ledger and the checkpoints say. None of these loads torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.cli.options import DEFAULT_HOME, AsJson, Home, RunName


def ls(home: Home = DEFAULT_HOME, as_json: AsJson = False) -> None:
    """List the runs of a home folder, oldest first."""
    from orchestrator.cli.console import err, out, print_json
    from orchestrator.cli.tables import runs_table
    from orchestrator.runs import opened, strays
    from store.story import status
    from store.words import listed

    with opened(home) as (place, ledger):
        unknown = strays(place, ledger)
        runs = [
            {**vars(run), "status": status(run.status, place.run_folder(run.name))}
            for run in ledger.reading.runs()
        ]
    if as_json:
        print_json(runs)
    elif runs:
        out.print(runs_table(runs))
    else:
        out.print(f"No runs in {home} yet. `evergreen run SPEC` makes one.")
    if unknown:
        text = f"Not in the ledger, though the folder is here: {listed(unknown)};"
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
    from orchestrator.cli.console import out, print_json
    from orchestrator.cli.following import follow as follow_run
    from orchestrator.cli.tables import print_events, print_samples, print_story
    from orchestrator.errors import UserError
    from orchestrator.runs import find_run, known_environment, opened
    from store.story import tell

    if follow and as_json:
        raise UserError("--follow is for looking; a program asks `show RUN --json` as often as it likes")

    with opened(home, run) as (place, ledger):
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
    from orchestrator.runs import export_weights, opened

    with opened(home, run) as (place, ledger):
        export_weights(ledger, place, run, stage, folder)
    out.print(f'Weights are in {folder}: AutoModelForCausalLM.from_pretrained("{folder}") loads them.')
