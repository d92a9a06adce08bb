from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from store.comparison import Comparison, ComparisonRequest
from store.comparison import compare as compare_runs
from store.home import Home
from store.ledger import Ledger

Compare = Callable[..., Comparison]


@pytest.fixture(scope="session")
def ledger() -> Iterator[Ledger]:
    """One ledger for all of them: making its tables takes longer than a made-up run."""
    with Ledger.open("sqlite://") as made:
        yield made


@pytest.fixture(scope="session")
def fresh() -> Callable[[], str]:
    """Names for studies and prefixes for runs, each used once."""
    numbers = count()
    return lambda: f"x{next(numbers)}."


@pytest.fixture
def compare(ledger: Ledger, tmp_path: Path) -> Compare:
    """Compare runs of the ledger: names, then what else is asked for."""

    def compared(*names: str, **asked: Any) -> Comparison:
        return compare_runs(ledger.reading, Home(tmp_path), ComparisonRequest(names, **asked))

    return compared
