"""show: a run told, its samples, its events, or its course as it goes. Loads no torch."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from orchestrator.cli.console import err, out, print_json
from orchestrator.cli.ledger_follower import follow as follow_run
from orchestrator.cli.options import DEFAULT_HOME, AsJson, Home, RunName
from orchestrator.cli.tables import print_events, print_samples, print_story
from orchestrator.errors import UserError
from orchestrator.runs.catalog import find_run, known_environment, opened
from store.ledger.patience import Patience
from store.run_story import tell

FOLLOWED_S = 600.0  # for a ledger that is away, while somebody follows a run


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
