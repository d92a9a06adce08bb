"""export: what the ledger holds, taken elsewhere as tables. Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from orchestrator.cli.console import every_few_seconds, out, problem
from orchestrator.cli.options import DEFAULT_HOME, Home
from orchestrator.errors import UserError
from orchestrator.os_signals import exit_code_of
from orchestrator.runs.catalog import opened
from orchestrator.runs.dry_run import size_in_words
from store.export import new_export
from store.sentences import num


def export(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs, or studies: all their runs.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder to make.")],
    formats: Annotated[
        Literal["parquet", "csv", "both"], typer.Option("--format", help="What to write.")
    ] = "both",
    home: Home = DEFAULT_HOME,
) -> None:
    """Write runs as tidy tables, a row an observation, with a data dictionary: Parquet and CSV, the same in both.

    DIR/DICTIONARY.md says what every column means, dictionary.json says it to a program.
    """
    if folder.exists():
        raise UserError(f"{folder} is there already: name a folder to make")
    names, tell = members(home, runs), every_few_seconds("exporting ")
    try:
        with new_export(folder, ("parquet", "csv") if formats == "both" else (formats,)) as exported:
            for place, name in enumerate(names, 1):
                tell(f"{name} ({place} of {len(names)})")
                with opened(home, name) as (_, ledger):
                    exported.add(ledger.reading, name, tell)
            num_rows = sum(exported.num_rows.values())
    except OSError as failed:
        raise UserError(f"{folder} cannot be written: {failed.strerror}") from failed
    except KeyboardInterrupt as signal:
        problem(f"stopped; nothing is left in {folder}")
        raise typer.Exit(exit_code_of(signal)) from None
    size = size_in_words(sum(file.stat().st_size for file in folder.iterdir()))
    what = f"{num(len(names), 'run')}, {num(num_rows, 'row')}, {size}"
    out.print(f"{folder}  {what}; DICTIONARY.md in it says what every column means", markup=False)


def members(home: Path, words: Sequence[str]) -> list[str]:
    """Name the runs that are meant: a word is a run's name or a study's, and no run comes twice."""
    names: list[str] = []
    for word in words:
        with opened(home, word) as (_, ledger):
            runs = [run.name for run in ledger.reading.runs()]
            studies = [study.name for study in ledger.reading.studies()]
            if word in runs:
                names.append(word)
            elif word in studies:
                names += [member.run for member in ledger.reading.members(word)]
            else:
                known = ", ".join([*runs, *(f"{study} (a study)" for study in studies)])
                raise UserError(f"there is no run or study {word!r}; there are: {known or 'none yet'}")
    if not names:
        raise UserError(f"{', '.join(words)} has no runs yet")
    return list(dict.fromkeys(names))
