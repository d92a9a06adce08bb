"""init: files to begin with, written into a folder. Loads no torch."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from orchestrator.cli.console import out, plain
from orchestrator.cli.options import DEFAULT_HOME, command
from orchestrator.errors import UserError
from orchestrator.example_files import STARTER, Example, copy, examples, find_example

FOLDER = Path("my-curriculum")


def init(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="FOLDER",
            help=f"Where to, made if need be; default: {FOLDER}, or the example's name. `.` is here.",
        ),
    ] = None,
    example: Annotated[
        str | None, typer.Option("--example", metavar="NAME", help="Copy this example, with the files it needs.")
    ] = None,
    list_them: Annotated[bool, typer.Option("--list", help="List the examples, a line each.")] = False,
) -> None:
    """Write a curriculum to begin with into a folder: a spec, two files of rows, an environment and a reward.

    It runs as it is, on a CPU in a minute or two, with a small language model made on the spot; the spec's
    comments say what of yours to put where. Nothing is ever overwritten.
    """
    if list_them:
        if folder is not None or example is not None:
            raise UserError("--list writes nothing: leave it out to write an example, or FOLDER and --example to list")
        print_examples()
        return
    found = find_example(example or STARTER)
    target = folder or (FOLDER if example is None else Path(found.name))
    for path in copy(found, target):
        out.print(f"wrote {plain(str(path))}", markup=False)
    out.print()
    commands = next_commands(found, target)
    width = max(len(words) for words, _ in commands)
    for words, meaning in commands:
        out.print(f"  {words:<{width}}  # {meaning}", markup=False)


def next_commands(example: Example, folder: Path) -> list[tuple[str, str]]:
    """Say what to do with a copied example, in three commands with what each does."""
    spec = plain(shlex.quote(str(folder / example.spec.name)))
    follow = (
        [
            (f"study {spec} --dry-run", "its runs, and what they cost"),
            (f"study {spec}", "the same command goes on where it stopped"),
            (f"compare {example.run_name}", "which setting is better"),
        ]
        if example.is_study
        else [
            (f"validate {spec}", "what it means; nothing runs"),
            (f"run {spec}", "Ctrl-C saves and stops"),
            (f"show {example.run_name}", "what was learnt; `report` draws it"),
        ]
    )
    return [(command(words, DEFAULT_HOME), meaning) for words, meaning in follow]


def print_examples() -> None:
    """List the examples, each with its first sentence."""
    grid = Table.grid(padding=(0, 2))
    for name, one in examples().items():
        grid.add_row(Text(name, style="bold"), Text(one.summary))
    out.print(grid)
    out.print("\n`evergreen init --example NAME` copies one with the files it needs.")
