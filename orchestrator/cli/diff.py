"""diff: two runs side by side. Loads no torch."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

from orchestrator.cli.console import every_few_seconds, out, plain, print_json
from orchestrator.cli.options import DEFAULT_HOME, AsJson, Home
from orchestrator.cli.tables import table
from orchestrator.errors import OUR_FAULT
from orchestrator.runs.catalog import find_run, opened
from store.diff import Diff, DiffSide, in_words, value
from store.diff import diff as compare


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A run's name.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another run's name.")],
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 1 if they are not equal, bit for bit.")
    ] = False,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Say what two runs were told differently, the first thing in which they differ, and how much after it.

    Compared are boundaries, stages, picks, tasks, replies, scores, metrics and weights; names and times are not.
    """
    with opened(home, a) as (place, ledger_a), opened(home, b) as (_, ledger_b):
        find_run(ledger_a, a)
        find_run(ledger_b, b)
        side_a, side_b = (
            DiffSide(ledger.reading, run, place.run_folder(run))
            for run, ledger in ((a, ledger_a), (b, ledger_b))
        )
        found = compare(side_a, side_b, every_few_seconds("comparing: "))
    if as_json:
        print_json({**asdict(found), "sentences": in_words(found)})
    else:
        print_diff(found)
    if exit_code and not found.is_equal:
        raise typer.Exit(OUR_FAULT)


def print_diff(found: Diff) -> None:
    """Print two runs side by side; what specs and environments say is text, never markup."""
    for letter, name, length in zip("AB", (found.a, found.b), found.lengths, strict=True):
        out.print(Text(f"{letter}  {name}: {length.status}, {length.num_steps} steps"))
    for title, fields in (
        ("Specs", found.spec),
        ("Versions of environments", found.environments),
        ("Hosts", found.host),
    ):
        if fields:
            made = table(title, "field", "A", "B")
            for field in fields:
                made.add_row(*(Text(plain(text)) for text in (field.name, value(field.a), value(field.b))))
            out.print(made)
    for sentence in in_words(found):
        out.print(Text(plain(sentence)))
