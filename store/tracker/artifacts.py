"""The files beside a curriculum's values: what was run, what was measured, every pick, some samples, the report."""

from __future__ import annotations

import csv
import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import Any

from store.export.file_formats import ParquetWriter
from store.export.tables import PICKS
from store.ledger import Reading
from store.ledger.query_rows import CellRow, by_key
from store.secrets import without_logins
from store.tracker.names import of_category, of_environment, slug
from store.tracker.pages import Cursor, HistoryPages

SPEC, REPORT = "spec.yaml", "report.html"  # in a run's folder, when they are there
TRANSITIONS = ("stage", "environment", "start_step", "num_steps", "stop_reason", "probability", "reward")
_OF_BOUNDARIES: Sequence[tuple[str, Callable[[Reading, str], Sequence[Any]], Sequence[str]]] = (
    ("network.csv", Reading.network, ("after_stage", "metric", "layer", "value")),
    ("probe_curves.csv", Reading.probe_points, ("after_stage", "kind", "task", "seed", "step", "metric", "value")),
    ("interventions.csv", Reading.interventions, ("after_stage", "number", "step", "kind", "params", "why")),
    ("measurements.csv", Reading.measurements, ("after_stage", "name", "passes", "seconds")),
)
NUM_SAMPLES = 20  # an environment
STEPS_AT_ONCE = 1000


def write(folder: Path, history: HistoryPages, until: Cursor, run_folder: Path) -> None:
    """Fill a folder with a run's files, as they are at a boundary."""
    read, name = history.read, history.run.name
    if (run_folder / SPEC).is_file():
        (folder / SPEC).write_text(without_logins((run_folder / SPEC).read_text()))
    _matrices(folder / "matrices", history, until)
    _transitions(folder / "transitions.csv", history, until)
    for table, of, fields in _OF_BOUNDARIES:
        own = [row for row in of(read, name) if row.after_stage < until.num_boundaries]
        if own:
            _csv(folder / table, fields, [{key: _cell(value) for key, value in vars(row).items()} for row in own])
    columns = [column for column in PICKS.columns if column.name != "run"]
    with closing(ParquetWriter(folder / "picks.parquet", columns)) as file:
        for after in range(-1, until.step, STEPS_AT_ONCE):
            picks = read.picks(name, after, min(after + STEPS_AT_ONCE, until.step))
            file.write([tuple(getattr(pick, column.name) for column in columns) for pick in picks])
    _samples(folder / "samples", read, name, until.num_boundaries - 1)
    copy_report(run_folder, folder)


def copy_report(run_folder: Path, folder: Path) -> None:
    """Copy the report as it is now; the run writes it by itself, and maybe later than its ledger."""
    if (run_folder / REPORT).is_file():
        shutil.copyfile(run_folder / REPORT, folder / REPORT)


def _matrices(folder: Path, history: HistoryPages, until: Cursor) -> None:
    """Write a table a metric: a row a boundary, a column an environment, then one a category."""
    folder.mkdir()
    steps = {boundary.after_stage: boundary.step for boundary in history.boundaries}
    for metric, all_of_it in history.cells.items():
        cells = [cell for cell in all_of_it if cell.after_stage < until.num_boundaries]
        columns = list(dict.fromkeys(_column(c) for c in sorted(cells, key=lambda c: c.category is not None)))
        rows: dict[int, dict[str, Any]] = defaultdict(dict)
        for cell in cells:
            rows[cell.after_stage][_column(cell)] = cell.value
        table = [{"after_stage": i, "step": steps[i], **row} for i, row in sorted(rows.items())]
        if table:
            _csv(folder / f"{slug(metric)}.csv", ["after_stage", "step", *columns], table)


def _column(cell: CellRow) -> str:
    """Name a column like the series, without the metric."""
    environment = cell.environment or "*"
    if cell.category is None:
        return of_environment("", environment).removeprefix("/")
    return of_category("", environment, cell.category).partition("/")[2]


def _transitions(path: Path, history: HistoryPages, until: Cursor) -> None:
    """Write a row a finished stage: where, how long, why it ended, what it earned."""
    rows = []
    for number, stage in sorted(history.stages.items()):
        pick = history.picks.get(number)
        if number < until.num_boundaries and stage.end_step is not None:
            row = {"stage": number, "environment": stage.environment or "*", "start_step": stage.start_step}
            row |= {"num_steps": stage.end_step - stage.start_step, "stop_reason": stage.stop_reason}
            row |= {"probability": pick.probability, "reward": pick.signal} if pick else {}
            rows.append(row)
    if rows:
        _csv(path, TRANSITIONS, rows)


def _samples(folder: Path, read: Reading, name: str, after_stage: int) -> None:
    """Write the newest boundary's completions, a line each: of every category in turn, up to a number."""
    folder.mkdir()
    samples = read.boundary_samples(name, [after_stage], NUM_SAMPLES)
    for environment, own in by_key(samples, lambda sample: sample.environment).items():
        in_turn = zip_longest(*by_key(own, lambda sample: sample.category).values())
        chosen = [sample for row in in_turn for sample in row if sample is not None][:NUM_SAMPLES]
        lines = [json.dumps(asdict(sample)) + "\n" for sample in chosen]
        (folder / f"{slug(environment)}.jsonl").write_text("".join(lines))


def _cell(value: Any) -> Any:
    return json.dumps(dict(value)) if isinstance(value, Mapping) else value


def _csv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
