from __future__ import annotations

import csv
import json
from pathlib import Path

from store.secrets import without_logins
from store.tracker.record import MlflowRecord, Target
from store.tracker.sync import catch_up
from tests.store.tracker.conftest import Copy
from tests.store.tracker.content import files, num_rows


def test_files_are_those_of_the_newest_boundary(source_of: Copy, target: Target, tmp_path: Path) -> None:
    source = source_of()
    (source.folder / "report.html").write_text("<p>one</p>")
    catch_up(source, MlflowRecord(target))
    sent = files(tmp_path / "mlflow_artifacts")
    assert set(sent) == {
        "spec.yaml", "report.html", "transitions.csv", "picks.parquet",
        "network.csv", "probe_curves.csv", "interventions.csv", "measurements.csv",
        *(f"matrices/{metric}.csv" for metric in ("value", "pass_1", "pass_4", "entropy_token", "truncated_frac")),
        "matrices/own_rank.csv",
        *(f"samples/{environment}.jsonl" for environment in ("numbers", "book", "noise")),
    }  # fmt: skip
    assert sent["spec.yaml"] == (source.folder / "spec.yaml").read_bytes()
    samples = [json.loads(line) for line in sent["samples/book.jsonl"].splitlines()]
    assert {sample["after_stage"] for sample in samples} == {3}
    assert {sample["category"] for sample in samples[:2]} == {"2", "4"}
    assert len(samples) <= 20


def test_tables_hold_what_the_ledger_does(source_of: Copy, target: Target, tmp_path: Path) -> None:
    source = source_of()
    catch_up(source, MlflowRecord(target))
    sent = files(tmp_path / "mlflow_artifacts")
    matrix = list(csv.DictReader(sent["matrices/pass_1.csv"].decode().splitlines()))
    for cell in source.read.matrix("small", "pass_1"):
        column = f"{cell.environment}.{cell.category}" if cell.category else str(cell.environment)
        assert float(matrix[cell.after_stage][column]) == cell.value
    curves = list(csv.DictReader(sent["probe_curves.csv"].decode().splitlines()))
    points = [vars(row).items() for row in source.read.probe_points("small")]
    assert curves == [{key: "" if value is None else str(value) for key, value in row} for row in points]
    stages = list(csv.DictReader(sent["transitions.csv"].decode().splitlines()))
    assert [row["environment"] for row in stages] == ["book", "noise", "numbers"]
    assert [row["num_steps"] for row in stages] == ["3", "3", "3"]


def test_every_pick_is_in_its_table(source_of: Copy, target: Target, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    source = source_of()
    catch_up(source, MlflowRecord(target))
    (path,) = (tmp_path / "mlflow_artifacts").rglob("picks.parquet")
    table = pq.read_table(path).to_pylist()
    assert len(table) == 9 * 4 + 3
    assert table == [vars(pick) for pick in source.read.picks("small")]


def test_another_report_is_sent_and_an_equal_one_is_not(source_of: Copy, target: Target, tmp_path: Path) -> None:
    source, record = source_of(), MlflowRecord(target)
    catch_up(source, record)
    (source.folder / "report.html").write_text("<p>two</p>")
    catch_up(source, record)
    (sent,) = (tmp_path / "mlflow_artifacts").rglob("report.html")
    assert sent.read_text() == "<p>two</p>"
    counts = num_rows(target)
    sent.write_text("untouched")
    catch_up(source, record)
    assert (sent.read_text(), num_rows(target)) == ("untouched", counts)


def test_passwords_are_not_sent(source_of: Copy, target: Target, tmp_path: Path) -> None:
    source = source_of()
    spec = source.folder / "spec.yaml"
    spec.write_text(spec.read_text().replace("url: null", "url: postgresql://me:secret@host/db"))
    catch_up(source, MlflowRecord(target))
    assert b"url: postgresql://***@host/db" in files(tmp_path / "mlflow_artifacts")["spec.yaml"]
    assert without_logins("http://u:p@h:5000/x, http://token@h and http://h") == (
        "http://***@h:5000/x, http://***@h and http://h"
    )
