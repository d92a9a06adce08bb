from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from store.ledger import Ledger
from store.report import render
from tests.store.report.runs import Shape, written

Tell = Callable[[Shape], str]


@pytest.fixture(scope="session")
def ledger() -> Iterator[Ledger]:
    """One ledger for all of them: making its tables takes longer than a made-up run."""
    with Ledger.open("sqlite://") as made:
        yield made


@pytest.fixture(scope="session")
def name() -> Callable[[], str]:
    """Names for runs, each used once."""
    numbers = count()
    return lambda: f"run-{next(numbers)}"


@pytest.fixture
def tell(ledger: Ledger, name: Callable[[], str], tmp_path: Path) -> Tell:
    """Write a run of a shape, finished, and tell it as a page."""

    def rendered(shape: Shape) -> str:
        run = written(ledger, shape, name())
        ledger.set_status(run, "finished")
        return render(ledger, tmp_path, run.name)

    return rendered
