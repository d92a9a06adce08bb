"""export, diff: what the ledger holds, taken elsewhere or put side by side. Neither loads torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from orchestrator.cli.options import DEFAULT_HOME, AsJson, Home

if TYPE_CHECKING:
    from store.diff import Diff

Formats = Literal["parquet", "csv", "both"]


def export(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs, or studies: all their runs.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder to make.")],
    formats: Annotated[Formats, typer.Option("--format", help="What to write.")] = "both",
    home: Home = DEFAULT_HOME,
) -> None:
    """Write runs as tidy tables, a row an observation, with a data dictionary: Parquet and CSV, the same in both.

    DIR/DICTIONARY.md says what every column means, dictionary.json says it to a program.
    """
    from orchestrator.cli.console import out, problem
    from orchestrator.errors import UserError
    from orchestrator.os_signals import exit_code_of
    from orchestrator.runs.dry_run import size_in_words
    from store.sentences import num

    if folder.exists():
        raise UserError(f"{folder} is there already: name a folder to make")
    names = _members(home, runs)
    try:
        num_rows = _export(home, names, folder, ("parquet", "csv") if formats == "both" else (formats,))
    except OSError as failed:
        raise UserError(f"{folder} cannot be written: {failed.strerror}") from failed
    except KeyboardInterrupt as signal:
        problem(f"stopped; nothing is left in {folder}")
        raise typer.Exit(exit_code_of(signal)) from None
    size = size_in_words(sum(file.stat().st_size for file in folder.iterdir()))
    what = f"{num(len(names), 'run')}, {num(num_rows, 'row')}, {size}"
    out.print(f"{folder}  {what}; DICTIONARY.md in it says what every column means", markup=False)


def _export(home: Path, names: Sequence[str], folder: Path, formats: Sequence[str]) -> int:
    """Write every run into the tables; return the number of rows."""
    from orchestrator.cli.throttle import every_few_seconds
    from orchestrator.runs.catalog import opened
    from store.export import new_export

    tell = every_few_seconds("exporting ")
    with new_export(folder, formats) as exported:
        for place, name in enumerate(names, 1):
            tell(f"{name} ({place} of {len(names)})")
            with opened(home, name) as (_, ledger):
                exported.add(ledger.reading, name, tell)
        return sum(exported.num_rows.values())


def _members(home: Path, words: Sequence[str]) -> list[str]:
    """Name the runs that are meant: a word is a run's name or a study's, and no run comes twice."""
    from orchestrator.errors import UserError
    from orchestrator.runs.catalog import opened

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
    from dataclasses import asdict

    from orchestrator.cli.console import print_json
    from orchestrator.cli.throttle import every_few_seconds
    from orchestrator.errors import OUR_FAULT
    from orchestrator.runs.catalog import find_run, opened
    from store.diff import DiffSide, in_words
    from store.diff import diff as compare

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
        _print_diff(found)
    if exit_code and not found.is_equal:
        raise typer.Exit(OUR_FAULT)


def _print_diff(found: Diff) -> None:
    """Print two runs side by side; what specs and environments say is text, never markup."""
    from rich.text import Text

    from orchestrator.cli.console import out, plain
    from orchestrator.cli.tables import table
    from store.diff import in_words, value

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
