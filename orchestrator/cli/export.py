"""export, report, weights: runs taken elsewhere, as tables, as a page, as a policy. Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from orchestrator.cli.completion import run_and_study_names
from orchestrator.cli.console import every_few_seconds, leaving, out, say_where, write_page
from orchestrator.cli.options import DEFAULT_HOME, Home, RunName, command
from orchestrator.errors import UserError
from orchestrator.runs.catalog import find_run, opened
from orchestrator.runs.exported_weights import export_weights
from policies.config import BASE
from store.export import new_export
from store.report import REPORT_FILE, write
from store.sentences import num, size_in_words


def export(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="Runs, or studies: all their runs.", autocompletion=run_and_study_names),
    ],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder to make.")],
    formats: Annotated[Literal["parquet", "csv", "both"], typer.Option("--format", help="What to write.")] = "both",
    home: Home = DEFAULT_HOME,
) -> None:
    """Write runs as tidy tables, a row an observation, with a data dictionary: Parquet and CSV, the same in both.

    DIR/DICTIONARY.md says what every column means, dictionary.json says it to a program.
    """
    if folder.exists():
        raise UserError(f"{folder} is there already: name a folder to make")
    refuse_name(home, [*runs, str(folder)])
    names, tell = members(home, runs), every_few_seconds("exporting ")
    written = ("parquet", "csv") if formats == "both" else (formats,)
    try:
        with leaving(f"stopped; nothing is left in {folder}"), new_export(folder, written) as exported:
            for place, name in enumerate(names, 1):
                tell(f"{name} ({place} of {len(names)})")
                with opened(home, name) as (_, ledger):
                    exported.add(ledger.reading, name, tell)
            num_rows = sum(exported.num_rows.values())
    except OSError as failed:
        raise UserError(f"{folder} cannot be written: {failed.strerror}") from failed
    size = size_in_words(sum(file.stat().st_size for file in folder.iterdir()))
    what = f"{num(len(names), 'run')}, {num(num_rows, 'row')}, {size}"
    out.print(f"{folder}  {what}; DICTIONARY.md in it says what every column means", markup=False)
    for name, lost in exported.missing.items():
        out.print(f"{name}: {lost}", markup=False)


def refuse_name(home: Path, words: Sequence[str]) -> None:
    """Refuse the name of a run or a study where the last word is to be a folder to make."""
    *_, last = words
    with opened(home, words[0]) as (_, ledger):
        read = ledger.reading
        known = {"run": [run.name for run in read.runs()], "study": [study.name for study in read.studies()]}
    for kind, names in known.items():
        if last in names:
            all_of_it = command(f"export {' '.join(words)} DIR", home)
            raise UserError(
                f"{last} is a {kind}, and the last word is the folder to make: {all_of_it} exports it too, and a "
                f"folder of that name is made by its whole path, {Path.cwd() / last}"
            )


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


def report(
    run: RunName,
    file: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where to; default: report.html in the run's folder."),
    ] = None,
    home: Home = DEFAULT_HOME,
) -> None:
    """Write a run as one HTML file: what was learnt, what it cost in entropy, who chose what, samples, incidents.

    The file needs no network and runs no script. A run writes its own at its end, and at
    boundaries before as long as that takes at most a hundredth of its time.
    """
    with opened(home, run) as (place, ledger):
        find_run(ledger, run)
        folder = place.run_folder(run)
        target = file or folder / REPORT_FILE
        write_page(target, "report", lambda path: write(ledger, folder, run, path))
    say_where(target)


def weights(
    run: RunName,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder to make.")],
    stage: Annotated[
        int | None, typer.Option(help="The policy after this stage; default: the newest checkpoint.")
    ] = None,
    adapter: Annotated[
        bool, typer.Option("--adapter", help="Adapters alone, as peft reads them; else merged into the model.")
    ] = False,
    home: Home = DEFAULT_HOME,
) -> None:
    """Copy a policy's weights and tokenizer out, in the layout that transformers' from_pretrained reads."""
    with opened(home, run) as (place, ledger):
        try:
            export_weights(ledger, place, run, stage, folder, as_adapter=adapter)
        except OSError as failed:
            raise UserError(f"{folder} cannot be written: {failed.strerror or failed}") from failed
    loads = "AutoModelForCausalLM.from_pretrained("
    if not adapter:
        out.print(f'Weights are in {folder}: {loads}"{folder}") loads them.')
        return
    out.print(f'Weights are in {folder}: peft\'s PeftModel.from_pretrained(model, "{folder}") loads them.')
    if (base := folder / BASE).is_dir():
        out.print(f'The model that they stand beside, with earlier ones merged, is in it: model = {loads}"{base}").')
