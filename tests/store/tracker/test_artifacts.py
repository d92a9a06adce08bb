from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from store.home import sqlite_url
from store.secrets import without_logins
from store.tracker.record import MlflowRecord, Target
from store.tracker.sync import catch_up
from tests.store.tracker.conftest import Copy
from tests.store.tracker.content import files, num_rows, rows


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


@pytest.mark.parametrize("is_gone", [True, False])
def test_a_home_that_was_moved_or_copied_keeps_its_files_itself(
    source_of: Copy, target: Target, tmp_path: Path, is_gone: bool
) -> None:
    source, old, new = source_of(), tmp_path / "first_%", tmp_path / "second"
    (source.folder / "report.html").write_text("<p>one</p>")
    there = replace(target, uri=sqlite_url(old / "mlflow.db"), artifacts=(old / "mlflow_artifacts").as_uri())
    catch_up(source, MlflowRecord(there))
    shutil.copytree(old, new)
    if is_gone:
        shutil.rmtree(old)
    (source.folder / "report.html").write_text("<p>two</p>")
    from mlflow.tracking._tracking_service.client import utils

    utils._artifact_repos_cache.clear()  # MLflow's, of one process, which no home is moved under
    here = replace(target, uri=sqlite_url(new / "mlflow.db"), artifacts=(new / "mlflow_artifacts").as_uri())
    catch_up(source, MlflowRecord(here))
    assert files(new / "mlflow_artifacts")["report.html"] == b"<p>two</p>"
    assert old.exists() is not is_gone
    if not is_gone:
        assert files(old / "mlflow_artifacts")["report.html"] == b"<p>one</p>"
    places = {place for (place,) in rows(here, "SELECT artifact_uri FROM runs")}
    assert all(place.startswith(str(here.artifacts)) for place in places)


@pytest.mark.parametrize("folder", ["elsewhere", "shared/mlflow_artifacts"])
def test_files_that_a_user_put_elsewhere_stay_there(
    source_of: Copy, target: Target, tmp_path: Path, folder: str
) -> None:
    """A database that several homes share has its files where the first of them said."""
    source = source_of()
    (source.folder / "report.html").write_text("<p>one</p>")
    there = replace(target, artifacts=(tmp_path / folder).as_uri())
    catch_up(source, MlflowRecord(there))
    uri = sqlite_url(tmp_path / "mlflow.db")
    MlflowRecord(Target(uri, "evergreen", (tmp_path / "another" / "mlflow_artifacts").as_uri()))
    assert {place.startswith(str(there.artifacts)) for (place,) in rows(there, "SELECT artifact_uri FROM runs")} == {
        True
    }


def test_passwords_are_not_sent(source_of: Copy, target: Target, tmp_path: Path) -> None:
    source = source_of()
    spec = source.folder / "spec.yaml"
    spec.write_text(spec.read_text().replace("url: null", "url: postgresql://me:secret@host/db"))
    catch_up(source, MlflowRecord(target))
    assert b"url: postgresql://***@host/db" in files(tmp_path / "mlflow_artifacts")["spec.yaml"]
    assert without_logins("http://u:p@h:5000/x, http://token@h and http://h") == (
        "http://***@h:5000/x, http://***@h and http://h"
    )
