"""doctor: what is wrong with a home and its runs, a sentence and a remedy each."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

from orchestrator.cli.completion import run_names
from orchestrator.cli.console import every_few_seconds, leaving, out, plain, print_json
from orchestrator.cli.options import DEFAULT_HOME, AsJson, Home, in_home
from orchestrator.errors import YOUR_MISTAKE
from orchestrator.runs.diagnosis import diagnose
from store.sentences import listed, num

STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


def doctor(
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="Only this run, and all of its checkpoints.", autocompletion=run_names),
    ] = None,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Say what is wrong with a home and its runs, and what to do.

    Looks at disk, databases, runs that were killed, checkpoints (every byte of the newest, of all where a RUN is
    given), edited specs, versions, GPU, servers, and how far MLflow's record is. It mends nothing. Exit code 2 if there
    are errors.
    """
    with leaving("nothing was changed"):
        found = list(diagnose(home, run, every_few_seconds("looking at ")))
    if as_json:
        print_json([asdict(one) for one in found])
    else:
        for one in sorted(found, key=lambda one: list(STYLES).index(one.severity)):
            out.print(Text(f"{one.severity:<8}", style=STYLES[one.severity]) + Text(f"{one.about}: {plain(one.text)}"))
            if one.remedy:
                out.print(Text(f"        {in_home(one.remedy, home)}"))
        counts = Counter[str](one.severity for one in found)
        said = listed([num(counts[severity], severity) for severity in STYLES if counts[severity]])
        out.print(Text(said or "nothing is wrong", style="bold red" if counts["error"] else "bold green"))
    if any(one.severity == "error" for one in found):
        raise typer.Exit(YOUR_MISTAKE)
