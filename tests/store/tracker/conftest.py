"""Empty MLflow databases, and copies of finished runs to send to them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from store.home import Home
from store.ledger import Ledger
from store.tracker.record import MlflowRecord, Target
from store.tracker.sync import Source, catch_up
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
            return Source(ledger, name, place.run_folder(name))

        yield copy


@pytest.fixture(scope="session")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a run `alone` of two stages of thirteen steps."""
    import orchestrator
    from tests.orchestrator.specs import alone

    home = tmp_path_factory.mktemp("long")
    assert orchestrator.run(alone(steps=13), home=home).status == "finished"
    return home


@pytest.fixture(scope="session")
def both(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> MlflowRecord:
    """The record of `small` and `flat`, to be read only."""
    record, place = MlflowRecord(empty(tmp_path_factory.mktemp("both"))), Home(finished)
    with Ledger.open(place.ledger_url, create=False) as ledger:
        for name in ("small", "flat"):
            catch_up(Source(ledger, name, place.run_folder(name)), record)
    return record
