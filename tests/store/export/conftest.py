"""A ledger with made-up runs, and its tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from store.export import new_export
from store.ledger import Ledger
from store.records import BoundaryRecord, EventRecord, RunRecord, StepRecord
from tests.store.ledger import example
from tests.store.report.runs import Shape, written

RUNS = ("example", "hostile", "speechless", "begun")
HOSTILE = 'first line\r\nsecond, "quoted"\rthird\n\x00 ends; NA, null and \u2028 too, \U0001f300 =1+1'


def with_login(record: Any) -> Any:
    if isinstance(record, RunRecord):
        return replace(record, spec={**record.spec, "ledger": {"url": "postgresql://me:secret@host/db"}})
    return record


def speechless(record: Any) -> Any:
    if isinstance(record, StepRecord | BoundaryRecord):
        return replace(record, samples=[replace(sample, completion="") for sample in record.samples])
    return record


@pytest.fixture(scope="session")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    folder = tmp_path_factory.mktemp("ledger")
    with Ledger.open(f"sqlite:///{folder / 'evergreen.db'}") as opened:
        example.intervene(opened, example.write(opened, "example", with_login))
        events = [EventRecord("NA", HOSTILE, {"text": HOSTILE})]
        shape = Shape(prompt=HOSTILE, completion=HOSTILE, reason=HOSTILE, events=events, is_flat=True)
        written(opened, shape, "hostile")
        example.write(opened, "speechless", speechless)
        written(opened, Shape(boundaries=1), "begun")
        yield opened


@pytest.fixture(scope="session")
def tables(ledger: Ledger, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "tables"
    with new_export(folder, ["parquet", "csv"]) as export:
        for run in RUNS:
            export.add(ledger.reading, run)
    return folder
