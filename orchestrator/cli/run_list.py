"""ls: the runs of a home folder, a line each. Loads no torch.

On a terminal the columns that matter least are left out until a line fits; a name is never cut. In a pipe all columns
are there, aligned and in full, and no cell holds a blank: `evergreen ls | awk '$2 == "finished" {print $1}'`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.cells import cell_len
from rich.text import Text

from orchestrator.cli.completion import statuses, study_names
from orchestrator.cli.console import err, number, out, plain, print_json, say_where, write_page
from orchestrator.cli.options import DEFAULT_HOME, AsJson, Home, in_home
from orchestrator.errors import UserError
from orchestrator.runs.catalog import entered_again, inventory
from store.courses import Course, Inventory, RunCourse
from store.home import Home as HomeFolder
from store.ledger.query_rows import RunRow, by_key
from store.run_status import STATUSES, status
from store.sentences import listed, num, percent, short

GAP = "  "  # between two columns
LONGEST = 20  # characters of a method's name on a terminal
STYLES = {"running": "green", "stopped": "yellow", "killed": "yellow", "failed": "red", "removing": "dim"}

METHODS = 5  # how much of the columns matter at most that say what was chosen for a run

Run = Mapping[str, Any]  # a run's row, with what is said of it at a glance


@dataclass(frozen=True)
class Column:
    """One column of the list."""

    title: str
    cell: Callable[[Run], str]
    matters: int  # the higher, the longer it stays on a narrow terminal
    is_number: bool = False


def _named(key: str) -> Callable[[Run], str]:
    return lambda run: plain(str(run[key] or "-"))


COLUMNS = (
    Column("run", _named("name"), 11),
    Column("status", _named("status"), 10),
    Column("steps", lambda run: f"{run['num_steps']}/{run['planned_steps']}", 9, True),
    Column("accuracy", lambda run: number(run["accuracy"]), 8, True),
    Column("entropy", lambda run: percent(run["entropy_left"]), 7, True),
    Column("objective", _named("objective"), 5),
    Column("bandit", _named("bandit"), 3),
    Column("scheduler", _named("scheduler"), 2),
    Column("model", _named("model"), 0),
    Column("seed", lambda run: str(run["seed"]), 4, True),
)
AGE = Column("age", lambda run: age(run["created_at"]), 6, True)  # on a terminal; in a pipe:
BEGUN = Column("begun", lambda run: f"{run['created_at'][:19]}Z", 6)


def ls(
    home: Home = DEFAULT_HOME,
    study: Annotated[
        str | None,
        typer.Option("--study", metavar="STUDY", help="Only the runs of this study.", autocompletion=study_names),
    ] = None,
    chosen: Annotated[
        list[str] | None,
        typer.Option(
            "--status",
            metavar="STATUS",
            help=f"Only runs that stand so, one or more: {','.join(STATUSES)}.",
            autocompletion=statuses,
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="At most so many, the newest.")] = None,
    html: Annotated[
        bool, typer.Option("--html", help="Write them as one HTML page, index.html in the home folder.")
    ] = False,
    file: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to, with --html.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the runs of a home folder, newest first, a line each.

    Accuracy and entropy are as measured last: held-out accuracy, mean of the environments, and what is left of the
    entropy at the start. A terminal shows the columns that fit; a pipe gets all, aligned, without a blank in a cell.

    With --html they are one page that needs no network and runs no script: every run with its course of accuracy and
    entropy, and links to its report and to MLflow. Once it is there, every run that ends writes it again.
    """
    wanted = {one.strip() for word in chosen or () for one in word.split(",")} - {""}
    if unknown := wanted - set(STATUSES):
        raise UserError(f"--status: no run is ever {listed(sorted(unknown))}; there are: {', '.join(STATUSES)}")
    found = inventory(home)
    runs = [_told(run, status(run.status, home.expanduser() / run.name)) for run in found.runs]
    studies = {run["study"] for run in runs if run["study"]}
    if study is not None and study not in studies:
        raise UserError(f"no run is of a study {study!r}; there are: {', '.join(sorted(studies)) or 'none'}")
    shown = [run for run in runs if study in (None, run["study"]) and (not wanted or run["status"] in wanted)][:limit]
    for text in found.problems:
        err.print(f"! {text}", style="yellow", markup=False)
    if html or file is not None:
        if len(shown) < len(runs) and file is None:
            raise UserError("index.html in the home folder is of all its runs; name a file for some of them with -o")
        names = {run["name"] for run in shown}
        _write_index(replace(found, runs=[run for run in found.runs if run.name in names]), home, file, as_json)
    if as_json:
        print_json(shown)
    elif html or file is not None:
        return
    elif runs:
        for line in lines(shown, out.width if sys.stdout.isatty() else None):
            out.print(line)
    elif not found.strays and not found.half_removed:
        out.print(f"No runs in {home} yet. `evergreen run SPEC` makes one.", markup=False)
    if len(shown) < len(runs):
        err.print(f"{len(shown)} of {num(len(runs), 'run')}")
    for of, those in by_key(found.strays, found.strays.get).items():
        text = f"Not in the ledger, though the folder is here: {listed(those)};"
        err.print(in_home(f"{text} {entered_again('RUN', of)}.", home), markup=False)
    if found.half_removed:
        text = f"Half removed: {listed(found.half_removed)};"
        err.print(in_home(f"{text} `evergreen rm RUN` removes the rest.", home), markup=False)


def _told(run: RunCourse, stands: str) -> Run:
    """Make a run's row of the list: the ledger's, how it stands, and the last of its course."""
    row = {field.name: getattr(run, field.name) for field in fields(RunRow)}
    ends = {"accuracy": _last(run.accuracy), "entropy_left": _last(run.entropy)}
    return {**row, "status": stands, "planned_steps": run.planned_steps, **ends}


def _last(course: Course) -> float | None:
    return course[max(course)] if course else None


def _write_index(found: Inventory, home: Path, file: Path | None, as_json: bool) -> None:
    from store import overview

    folder = HomeFolder(home, create=False).path
    target = file or folder / overview.INDEX_FILE
    write_page(target, "index", lambda path: overview.write(found, folder, path))
    say_where(target, as_json)


def lines(runs: Sequence[Run], width: int | None) -> list[Text]:
    """Lay runs out under a head, in columns that fit into a width; None: a pipe, which gets all of everything."""
    if not runs:
        return []
    cells = {
        column: [column.title, *(_cell(column, run, in_full=width is None) for run in runs)]
        for column in (*COLUMNS, BEGUN if width is None else AGE)
    }
    widths = {column: max(map(cell_len, own)) for column, own in cells.items()}

    def weight(column: Column) -> tuple[bool, int]:
        """What was chosen alike for all runs tells least."""
        return column.matters > METHODS or len({*cells[column][1:]}) > 1, column.matters

    while width is not None and len(widths) > 1 and sum(widths.values()) + len(GAP) * (len(widths) - 1) > width:
        del widths[min((column for column in widths if column is not COLUMNS[0]), key=weight)]
    made = []
    for index in range(len(runs) + 1):
        line = Text()
        for column, space in widths.items():
            text = cells[column][index]
            pad = " " * (space - cell_len(text))
            style = "bold" if index == 0 else STYLES.get(text, "") if column.title == "status" else ""
            line.append(f"{pad}{text}" if column.is_number else f"{text}{pad}", style).append(GAP)
        line.rstrip()
        made.append(line)
    return made


def _cell(column: Column, run: Run, in_full: bool) -> str:
    text = column.cell(run)
    if in_full:
        return "_".join(text.split())
    return text if column is COLUMNS[0] else short(text, LONGEST)


def age(moment: str) -> str:
    """Say how long ago something was, in the largest unit that fits."""
    seconds = max(0.0, (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s"
