from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from store.export import exporter as exporting
from store.export import new_export
from store.export.rows import RunRows, open_rows
from store.export.tables import TABLES
from store.ledger import Ledger, Reading
from store.ledger.tables import visible
from store.metrics import METRICS
from tests.store.export.conftest import HOSTILE, RUNS
from tests.store.report.runs import Shape, written

NAMES = [table.name for table in TABLES]
PARQUET = {"integer": "int64", "float": "double", "boolean": "bool"}
READ = {"integer": int, "float": float, "boolean": {"true": True, "false": False}.__getitem__}

Rows = list[dict[str, Any]]


def rows_of(folder: Path, name: str) -> Rows:
    rows: Rows = pq.read_table(folder / f"{name}.parquet").to_pylist()
    return rows


def dictionary(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / "dictionary.json").read_text())
    return facts


# --- the dictionary --------------------------------------------------------------------------------------


def test_the_dictionary_names_the_files_that_are_there_and_no_others(tables: Path) -> None:
    found = {path.name for path in tables.iterdir()} - {"DICTIONARY.md", "dictionary.json"}
    assert found == {f"{name}.{suffix}" for name in dictionary(tables)["tables"] for suffix in ("parquet", "csv")}


@pytest.mark.parametrize("name", NAMES)
def test_the_dictionary_tells_the_columns_that_are_written(tables: Path, name: str) -> None:
    told = dictionary(tables)["tables"][name]
    schema = pq.read_schema(tables / f"{name}.parquet")
    assert [(c["name"], PARQUET.get(c["kind"], "string"), c["nullable"]) for c in told["columns"]] == [
        (field.name, str(field.type), field.nullable) for field in schema
    ]
    header, *lines = csv.reader((tables / f"{name}.csv").open(newline=""))
    assert header == schema.names
    assert len(lines) == told["num_rows"] == pq.read_metadata(tables / f"{name}.parquet").num_rows
    assert all(column["meaning"] for column in told["columns"])


def test_the_readable_dictionary_says_the_same(tables: Path) -> None:
    text = (tables / "DICTIONARY.md").read_text()
    sections = {part.partition("\n")[0]: part for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]}
    facts = dictionary(tables)
    assert list(sections) == [*facts["tables"], "Numbers of carry-over", "Metrics"]
    for name, told in facts["tables"].items():
        rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \| (yes|) \| (.*) \|$", sections[name], re.MULTILINE)
        assert [(n, kind, unit, null == "yes", meaning) for n, kind, unit, null, meaning in rows] == [
            (c["name"], c["kind"], c["unit"], c["nullable"], c["meaning"]) for c in told["columns"]
        ]
    assert re.findall(r"^\| `([\w.]+)`", sections["Metrics"], re.MULTILINE) == list(METRICS)


def test_every_metric_that_is_written_is_explained(tables: Path) -> None:
    written = {row["metric"] for name in ("metrics", "cells") for row in rows_of(tables, name)}
    assert written
    assert written <= set(dictionary(tables)["metrics"])


# --- the content -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_csv_holds_what_parquet_does(tables: Path, name: str) -> None:
    """Read by Python alone: nulls are empty cells, everything else reads back to the same value."""
    columns = dictionary(tables)["tables"][name]["columns"]
    with (tables / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        found = [
            {c["name"]: _value(c, cell) for c, cell in zip(columns, line, strict=True)}
            for line in list(csv.reader(file, strict=True))[1:]
        ]
    assert found == rows_of(tables, name)
    assert found


def _value(column: dict[str, Any], cell: str) -> Any:
    return None if cell == "" and column["nullable"] else READ.get(column["kind"], str)(cell)


@pytest.mark.parametrize("name", NAMES)
def test_pandas_reads_the_same_the_way_the_guide_says(tables: Path, name: str) -> None:
    guide = (Path(__file__).parents[3] / "docs" / "export.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    frame: pd.DataFrame = names["read_table"](tables, name)
    found = [{key: None if pd.isna(value) else value for key, value in row.items()} for row in frame.to_dict("records")]
    assert found == rows_of(tables, name)


def test_a_null_is_not_an_empty_text(tables: Path) -> None:
    lines = (tables / "samples.csv").read_text().splitlines()
    own = [line for line in lines if line.startswith('"speechless"')]
    assert len(own) == 9
    assert {line.rpartition("}]")[2] for line in own} == {'","",0.0,false,'}, "no word, but no reason at all"


def test_what_models_and_programs_wrote_arrives_character_by_character(tables: Path) -> None:
    seen = visible(HOSTILE)
    assert "\x00" not in seen
    samples = [row for row in rows_of(tables, "samples") if row["run"] == "hostile"]
    assert samples
    assert all(row["completion"].startswith(seen) for row in samples)
    assert seen in {row["reason"] for row in samples} | {row["reason"] for row in rows_of(tables, "scores")}
    (event,) = (row for row in rows_of(tables, "events") if row["kind"] == "NA")
    assert event["text"] == seen
    assert json.loads(event["data"]) == {"text": HOSTILE}, "JSON escapes what others cannot take"


@pytest.mark.parametrize("run", ["example", "hostile"])
def test_tables_hold_what_the_ledger_does(ledger: Ledger, tables: Path, run: str) -> None:
    read = ledger.reading
    for name, answers in (
        ("steps", read.steps(run)),
        ("picks", read.picks(run)),
        ("arms", read.arms(run)),
        ("metrics", read.numbers(run)),
    ):
        rows = [row for row in rows_of(tables, name) if row.pop("run") == run]
        assert rows == [asdict(answer) for answer in answers]
        assert rows
    cells = [row for row in rows_of(tables, "cells") if row["run"] == run and row["metric"] == "accuracy"]
    assert [(c["after_stage"], c["environment"], c["category"], c["value"]) for c in cells] == [
        (c.after_stage, c.environment, c.category, c.value) for c in read.matrix(run, "accuracy")
    ]
    stages = [row for row in rows_of(tables, "stages") if row["run"] == run]
    assert [(s["environment"], s["planned_steps"], s["end_step"]) for s in stages] == [
        (s.environment, s.num_steps, s.end_step) for s in read.stages(run)
    ]
    boundaries = [row for row in rows_of(tables, "boundaries") if row["run"] == run]
    assert [json.loads(row["eval_settings"]) for row in boundaries] == [b.settings for b in read.boundaries(run)]


def test_what_was_measured_of_the_policy_is_exported_as_the_ledger_has_it(ledger: Ledger, tables: Path) -> None:
    read = ledger.reading
    for name, answers, order in (
        ("measurements", read.measurements("example"), ("after_stage", "name")),
        ("network", read.network("example"), ("after_stage", "metric", "layer")),
        ("probes", read.probes("example"), ("after_stage", "kind", "task", "seed")),
        ("probe_points", read.probe_points("example"), ("after_stage", "kind", "task", "seed", "step")),
        ("interventions", read.interventions("example"), ("after_stage", "number")),
        ("holdout_queries", read.holdout_queries("example"), ("after_stage",)),
    ):
        rows = [row for row in rows_of(tables, name) if row["run"] == "example"]
        found = sorted(map(asdict, answers), key=lambda row: [row[key] for key in order])
        for row in rows:
            row.update({key: json.loads(row[key]) for key in ("protocol", "params") if key in row})
        assert [{key: row[key] for key in found[0]} for row in rows] == found
    (transition,) = (row for row in rows_of(tables, "transitions") if row["run"] == "example")
    assert transition == {
        **{"run": "example", "from_stage": 1, "to_stage": 2, "from_environment": "words", "to_environment": "gcd"},
        **{"step": 3, "gap_steps": None},
    }


def test_scores_add_up_to_their_groups(tables: Path) -> None:
    scores: dict[tuple[Any, ...], Rows] = {}
    for row in rows_of(tables, "scores"):
        scores.setdefault((row["run"], row["step"], row["slot"]), []).append(row)
    groups = rows_of(tables, "groups")
    assert len(groups) == len(scores) > 0
    for group in groups:
        own = scores[group["run"], group["step"], group["slot"]]
        assert [row["sample"] for row in own] == list(range(group["num_samples"]))
        scored = [row["value"] for row in own if row["value"] is not None]
        assert (len(scored), sum(scored)) == (group["num_scored"], pytest.approx(group["value_sum"]))
        assert sum(row["correct"] or False for row in own) == group["num_correct"]
    unscored = [row for row in rows_of(tables, "scores") if row["value"] is None]
    assert all(row["reason"] and row["correct"] is None for row in unscored)
    assert unscored


def test_specs_come_without_logins(tables: Path) -> None:
    (row,) = (row for row in rows_of(tables, "runs") if row["run"] == "example")
    assert json.loads(row["spec"])["ledger"] == {"url": "postgresql://***@host/db"}
    assert "secret" not in (tables / "runs.csv").read_text()


# --- how it is written -----------------------------------------------------------------------------------


def test_rows_are_written_some_at_a_time(
    ledger: Ledger, tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "ROWS_AT_ONCE", 7)
    with new_export(tmp_path / "tables", ["parquet"]) as export:
        for run in RUNS:
            export.add(ledger.reading, run)
    groups = pq.read_metadata(tmp_path / "tables" / "scores.parquet")
    assert {groups.row_group(i).num_rows for i in range(groups.num_row_groups - 1)} == {7}
    assert [path.suffix for path in (tmp_path / "tables").glob("scores.*")] == [".parquet"]
    assert rows_of(tmp_path / "tables", "scores") == rows_of(tables, "scores")


def test_long_texts_make_smaller_portions(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "CHARACTERS_AT_ONCE", 3 * len(HOSTILE))
    with new_export(tmp_path / "tables", ["parquet"]) as export:
        export.add(ledger.reading, "hostile")
    assert pq.read_metadata(tmp_path / "tables" / "samples.parquet").num_row_groups > 3


def test_nothing_is_left_of_an_export_that_fails(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_words: str) -> None:
        assert len(list(tmp_path.glob(".aside-*/*.csv"))) == len(TABLES)
        raise KeyError("disk")

    monkeypatch.setattr(exporting, "TOLD_EVERY", 1)
    with pytest.raises(KeyError, match="disk"), new_export(tmp_path / "tables", ["csv", "parquet"]) as export:
        export.add(ledger.reading, "example", fail)
    assert list(tmp_path.iterdir()) == []


def test_progress_names_table_and_rows(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "TOLD_EVERY", 10)
    said: list[str] = []
    with new_export(tmp_path / "tables", ["csv"]) as export:
        export.add(ledger.reading, "example", said.append)
    assert "example: scores, 20 rows" in said


def test_tables_are_made_where_a_link_leads(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("elsewhere/folder")
    with new_export(tmp_path / "link", ["csv"]):
        pass
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "elsewhere" / "folder" / f"{NAMES[0]}.csv").is_file()


def test_facts_and_rows_of_a_run_that_goes_on_are_of_one_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ledger.open(f"sqlite:///{tmp_path / 'evergreen.db'}") as ledger:
        run = written(ledger, Shape(boundaries=1), "on")

        @contextmanager
        def opening(reading: Reading, name: str) -> Iterator[RunRows]:
            ledger.set_status(run, "stopped")
            with open_rows(reading, name) as rows:
                ledger.set_status(run, "finished")
                yield rows

        monkeypatch.setattr(exporting, "open_rows", opening)
        with new_export(tmp_path / "tables", ["parquet"]) as export:
            export.add(ledger.reading, "on")
    assert [row["status"] for row in rows_of(tmp_path / "tables", "runs")] == ["stopped"]
