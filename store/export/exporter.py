"""Runs out of the ledger, into a new folder of tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from store import carryover
from store.carryover import OUTCOMES, SWITCHES
from store.export.file_formats import FORMATS, Writer
from store.export.rows import Row, open_rows
from store.export.tables import CARRY_OVER, RUNS, TABLES, Table
from store.files import new_folder, write_text
from store.ledger import Reading
from store.ledger.tables import visible
from store.metrics import METRICS
from store.secrets import values_without_logins
from store.sentences import num, what_is_missing

ROWS_AT_ONCE = 10_000  # a row group of Parquet
CHARACTERS_AT_ONCE = 16_000_000  # or this much text, if that is less
TOLD_EVERY = 10_000  # rows
MARKDOWN, JSON = "DICTIONARY.md", "dictionary.json"


class ExportFile:
    """The files of one table. Rows wait until there are many of them, also from one run to the next."""

    def __init__(self, table: Table, files: Sequence[Writer]) -> None:
        self.num_rows = 0
        self._files = files
        self._texts = [place for place, c in enumerate(table.columns) if c.kind in ("text", "json")]
        self._waiting: list[Row] = []
        self._characters = 0

    def add(self, row: Row) -> None:
        """Take a row; its texts are made `visible`."""
        values = list(row)
        for place in self._texts:
            if values[place] is not None:
                values[place] = visible(values[place])
                self._characters += len(values[place])
        self._waiting.append(tuple(values))
        self.num_rows += 1
        if len(self._waiting) >= ROWS_AT_ONCE or self._characters >= CHARACTERS_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        for file in self._files:
            file.write(self._waiting)
        self._waiting, self._characters = [], 0


class Export:
    """Tables that runs are added to, one after the other. Made by `new_export`."""

    def __init__(self, outputs: Mapping[str, ExportFile]) -> None:
        self.outputs = outputs
        self.runs: list[str] = []
        self.missing: dict[str, str] = {}  # what the record of a run lacks, in words, by run

    @property
    def num_rows(self) -> dict[str, int]:
        """How many rows every table has."""
        return {name: output.num_rows for name, output in self.outputs.items()}

    def add(self, reading: Reading, run: str, tell: Callable[[str], None] = lambda words: None) -> None:
        """Take all rows of a run, as they are now; of a run that goes on meanwhile, one moment of it."""
        with open_rows(reading, run) as rows:
            then = rows.reading
            facts: dict[str, Any] = {**vars(then.run(run)), "run": run, "host": _json(then.host(run))}
            facts["spec"] = _json(values_without_logins(then.spec(run)))
            made: dict[str, Iterable[Row]] = {
                RUNS.name: [tuple(facts[column.name] for column in RUNS.columns)],
                CARRY_OVER.name: ((run, *one) for one in carryover.of_course(then.carry_over(run))),
            }
            for table in TABLES:
                output, found = self.outputs[table.name], made.get(table.name, ())
                if table.source is not None:
                    read = rows.of(table.source, table.reads)
                    found = ((run, *one) for row in read for one in table.spread(row))
                for count, row in enumerate(found, 1):
                    output.add(row)
                    if count % TOLD_EVERY == 0:
                        tell(f"{run}: {table.name}, {count:,} rows")
            lost = what_is_missing(then.gaps(run))
        self.runs.append(run)
        if lost:
            self.missing[run] = lost


@contextmanager
def new_export(folder: Path, formats: Sequence[str]) -> Iterator[Export]:
    """Make a folder of tables, where a link leads if it is one: whole when the block ends well, else not there.

    One that is there is replaced, so ask first. `formats` are `parquet` and `csv`.
    """
    with new_folder(folder.resolve()) as aside:
        with ExitStack() as stack:
            outputs = {}
            for table in TABLES:
                opened = [FORMATS[one](aside / f"{table.name}.{one}", table.columns) for one in formats]
                files = [stack.enter_context(closing(file)) for file in opened]
                outputs[table.name] = ExportFile(table, files)
            export = Export(outputs)
            yield export
            for output in outputs.values():
                output.flush()
        _write_dictionary(aside, export)


def _json(data: Any) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"))


# --- the data dictionary: for a person, and for a program ---


def _write_dictionary(folder: Path, export: Export) -> None:
    num_rows = export.num_rows
    facts = {
        "format": 1,
        "runs": export.runs,
        "missing": export.missing,
        "tables": {
            table.name: {
                "meaning": table.meaning,
                "row": table.row,
                "num_rows": num_rows[table.name],
                "columns": [asdict(column) for column in table.columns],
            }
            for table in TABLES
        },
        "carry_over": {one.name: one.meaning for one in (*OUTCOMES, *SWITCHES)},
        "metrics": {
            metric.name: {"unit": metric.unit, "direction": metric.direction, "meaning": metric.meaning}
            for metric in METRICS.values()
        },
    }
    write_text(folder / JSON, json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    loader = PackageLoader("store.export", ".")
    markdown = Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    write_text(folder / MARKDOWN, markdown.get_template(f"{MARKDOWN}.j2").render(facts, num=num))
