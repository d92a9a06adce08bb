"""Empty MLflow databases, and copies of finished runs to send to them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from store.home import Home
from store.ledger import Ledger, tables
from store.ledger.rows import boundary_rows
from store.records import MeasurementRecord
from store.tracker.record import MlflowRecord, Target
from store.tracker.sync import Source, catch_up
from tests.store.ledger import example
from tests.store.tracker.databases import empty

Copy = Callable[..., Source]


@pytest.fixture
def target(tmp_path: Path) -> Target:
    """An empty MLflow database."""
    return empty(tmp_path)


@pytest.fixture
def other(tmp_path: Path) -> Target:
    """Another one, to compare with."""
    return empty(tmp_path / "other")


@pytest.fixture
def source_of(finished: Path, tmp_path: Path) -> Iterator[Copy]:
    """A finished run in a copy of its home, so that it can be changed."""
    with ExitStack() as opened:

        def copy(name: str = "small", home: Path = finished) -> Source:
            place = Home(tmp_path / f"home-{len(list(tmp_path.glob('home-*')))}")
            for path in home.glob("evergreen.db*"):
                shutil.copy(path, place.path)
            shutil.copy(home / name / "spec.yaml", place.make_run_folder(name))
            ledger = opened.enter_context(Ledger.open(place.ledger_url, create=False))
            if name == "small":
                looked_at(ledger, name)
            return Source(ledger, name, place.run_folder(name))

        yield copy


def looked_at(ledger: Ledger, name: str) -> None:
    """Add to every boundary what a run's measurements of plasticity would have found: here, numbers made up."""
    run = ledger.open_run(name)
    numbers = ["own_rank", *(point.metric for point in example.boundary_record(0).probes[0].points[:1])]
    ledger._declare_metrics("made-up numbers", run, numbers)
    with ledger.engine.begin() as connection:
        for boundary in ledger.reading.boundaries(name):
            record = replace(
                example.boundary_record(boundary.after_stage),
                **dict.fromkeys(("cells", "items", "samples", "events", "queries"), ()),
                measurements=[MeasurementRecord("made up", 8.0 + boundary.after_stage, 0.25)],
            )
            for table, rows in boundary_rows(run, record, 0):
                if table is not tables.boundary and rows:
                    connection.execute(insert(table), rows)
            if boundary.after_stage:  # another environment's metrics of the same boundary are not in the way
                cell = tables.eval_cell
                found = select(cell).where(cell.c.run_id == run.run_id, cell.c.after_stage == boundary.after_stage)
                first = connection.execute(found.where(cell.c.category_id == 0).limit(1)).mappings().one()
                connection.execute(insert(cell).values({**first, "metric_id": run.metric("own_rank"), "value": 0.5}))
    example.intervene(ledger, run, lambda record: replace(record, after_stage=2, step=6))


@pytest.fixture(scope="session")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a run `alone` of two stages of thirteen steps."""
    import orchestrator
    from tests.orchestrator.specs import alone

    home = tmp_path_factory.mktemp("long")
    assert orchestrator.run({**alone(steps=13), "objective": "repo_r"}, home=home).status == "finished"
    return home


@pytest.fixture(scope="session")
def both(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> MlflowRecord:
    """The record of `small`, looked at, and `flat`, to be read only."""
    folder = tmp_path_factory.mktemp("both")
    record, place = MlflowRecord(empty(folder)), Home(folder / "home")
    for path in finished.glob("evergreen.db*"):
        shutil.copy(path, place.path)
    with Ledger.open(place.ledger_url, create=False) as ledger:
        looked_at(ledger, "small")
        for name in ("small", "flat"):
            catch_up(Source(ledger, name, place.run_folder(name)), record)
    return record
