"""new-env: an environment of one's own to begin with, its test and a spec. Loads no torch."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.console import out, plain
from orchestrator.cli.options import DEFAULT_HOME, command
from orchestrator.environment_files import write_environment


def new_env(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is called: NAME.py, and so in the spec.")],
    folder: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="Where to, made if need be; default: here.")
    ] = Path(),
    many_turns: Annotated[
        bool, typer.Option("--many-turns", help="An environment that answers, and is answered again.")
    ] = False,
) -> None:
    """Write an environment, its test and a spec that trains on it.

    The three files work as they are: a small real task, in which you put your own. Nothing is ever overwritten.
    """
    for path in write_environment(name, folder, many_turns):
        out.print(f"wrote {plain(str(path))}", markup=False)
    spec = plain(shlex.quote(str(folder / f"{name}.yaml")))
    commands = [
        (f"check-env {spec}", "what is wrong with it; `pytest` runs its test"),
        (f"play {spec}", "answer it yourself; `--policy random` and `reference` are its floor and ceiling"),
        (f"run {spec}", "train on it; Ctrl-C saves and stops"),
    ]
    written = [(command(words, DEFAULT_HOME), meaning) for words, meaning in commands]
    width = max(len(words) for words, _ in written)
    out.print()
    for words, meaning in written:
        out.print(f"  {words:<{width}}  # {meaning}", markup=False)
