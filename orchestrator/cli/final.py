"""final: the pool that is set aside for a study's end, read once."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.callbacks import Callback
from orchestrator.cli.completion import run_and_study_names
from orchestrator.cli.console import err, every_few_seconds, leaving, out
from orchestrator.cli.options import DEFAULT_HOME, Home, command
from orchestrator.runs.catalog import opened
from orchestrator.studies.final import look, looks_left
from store.sentences import listed, num


class Progress(Callback):
    """Says on stderr how far a long look is."""

    def __init__(self) -> None:
        self._tell = every_few_seconds("final: ")

    def opening(self, text: str) -> None:
        self._tell(text)

    def phase(self, text: str) -> None:
        self._tell(text)

    def measuring(self, text: str, done: int, total: int) -> None:
        self._tell(f"{text}, {done} of {total}")


def final(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study's name.", autocompletion=run_and_study_names)],
    again: Annotated[
        bool, typer.Option("--again", help="Read the pool once more; that is recorded with the runs.")
    ] = False,
    home: Home = DEFAULT_HOME,
) -> None:
    """Evaluate a study's finished runs on the final pool, once: tasks that nothing has looked at before.

    Everything that was compared on the way was compared on tasks that choices may have been made by. This is for the
    end, when nothing is decided any more: `evergreen compare STUDY --pool final` shows it. An interrupted look goes on
    with the same command; a second one is refused unless `--again` asks for it.
    """
    with opened(home, study) as (_, ledger):
        looks = looks_left(ledger.reading, study, again)
    if looks.unfinished:
        names = listed(list(looks.unfinished))
        err.print(f"warning: {num(len(looks.unfinished), 'run')} not finished, and left out: {names}", markup=False)
    if looks.closed:
        names = listed(list(looks.closed))
        what = f"{num(len(looks.closed), 'run')} without a final pool, on closed environments only, and left out"
        err.print(f"warning: {what}: {names}", markup=False)
    same = command(f"final {study}{' --again' if again else ''}", home)
    with leaving(f"stopped; what was evaluated is recorded, go on with: {same}"):
        look(home, looks, Progress(), lambda text: out.print(text, markup=False))
    out.print(f"Compare them with: {command(f'compare {study} --pool final', home)}", markup=False)
