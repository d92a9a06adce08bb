"""Arguments and options that several verbs share."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.completion import run_names
from store.home import DEFAULT, VARIABLE

SpecFile = Annotated[Path, typer.Argument(metavar="SPEC", help="A spec file, such as examples/demo.yaml.")]
RunName = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's name, as `evergreen ls` shows it.", autocompletion=run_names)
]
Home = Annotated[
    Path,
    typer.Option("--home", envvar=VARIABLE, help="The folder that holds all runs and the ledger."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one field of the spec: --set learner.lr=1e-4."),
]
UntilStep = Annotated[
    int | None, typer.Option(min=1, help="Stop, resumable, once this many steps of the run are done.")
]
NumRanks = Annotated[
    int | None, typer.Option("--ranks", min=1, help="Processes that update the policy: `resources.ranks`.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the same facts as JSON.")]
DEFAULT_HOME = DEFAULT
# Commands in what other packages say, which do not know how the home was named; `restore --home` means another one.
_ADVICE = re.compile(
    r"`evergreen "
    r"((?:compare|doctor|export|final|fork|ls|prune|report|resume|rm|show|stop|study|ui|upgrade|weights)\b[^`]*)`"
)


def command(words: str, home: Path) -> str:
    """Write a command that works from here: in the same home, and by its path where `evergreen` is not on PATH."""
    is_elsewhere = Path(sys.argv[0]).name == "evergreen" and shutil.which("evergreen") is None
    program = sys.argv[0] if is_elsewhere else "evergreen"
    return f"{program} {words}" + ("" if home == DEFAULT_HOME else f" --home {shlex.quote(str(home))}")


def in_home(text: str, home: Path) -> str:
    """Have the commands that a text advises work from here, as those of `command` do."""
    return _ADVICE.sub(lambda found: found[0] if "--home" in found[1] else f"`{command(found[1], home)}`", text)
