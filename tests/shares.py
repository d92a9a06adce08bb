"""Long lists of cases: a few for every run of the tests, all of them for `make test-slow`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def share(cases: Iterable[Any], number: int) -> list[Any]:
    """Mark all cases as slow but `number` of them, evenly spaced from the first on."""
    every = list(cases)
    quick = {round(i * len(every) / number) for i in range(number)}
    return [case if i in quick else slow(case) for i, case in enumerate(every)]


def slow(case: Any) -> Any:
    """Mark one case as slow."""
    return pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)
