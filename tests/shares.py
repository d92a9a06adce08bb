"""Long lists of cases: a few for every run of the tests, all of them for `make test-slow`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def share(cases: Iterable[Any], number: int) -> list[Any]:
    """Mark all cases as slow but `number` of them, evenly spaced from the first on."""
    every = [case if isinstance(case, tuple) else (case,) for case in cases]
    quick = {round(i * len(every) / number) for i in range(number)}
    return [pytest.param(*case, marks=() if i in quick else pytest.mark.slow) for i, case in enumerate(every)]
