"""Where rows hold what a reward compares with, when the options do not say: the places that data sets use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, islice
from typing import Any

from environments.contracts import EnvironmentFault
from environments.tables.expressions import Expression, Row
from environments.tables.invalid_rows import InvalidRow
from environments.tables.row_file import RowFile

TRUTHS = ("reward_model.ground_truth", "answer", "ground_truth", "solution")  # verl's place, then columns
HEAD = 100  # rows that are looked at


def find_truth(files: Sequence[RowFile], check: Callable[[Any], None]) -> Expression | None:
    """Find the first place at which one of the first rows has a truth; None if there is none and none is needed.

    Args:
        files: where to look.
        check: the reward's; it refuses None where a truth is needed.

    Raises:
        EnvironmentFault: there is none, and the reward needs one.
    """
    rows = list(islice(chain.from_iterable(file.head(HEAD) for file in files), HEAD))
    if not rows:
        return Expression(TRUTHS[0])  # no row can be read: going through them says why
    for is_there in (_is_given, _is_there):
        for expression in map(Expression, TRUTHS):
            if any(is_there(expression, row) for row in rows):
                return expression
    try:
        check(None)
    except ValueError as error:
        raise EnvironmentFault(
            f"the reward needs a truth, and the first rows have none at {', '.join(TRUTHS)}; their columns are"
            f" {', '.join(map(str, rows[0])) or 'none'}: say which by `truth: COLUMN`"
        ) from error
    return None


def _is_given(expression: Expression, row: Row) -> bool:
    return _is_there(expression, row) and expression(row) is not None


def _is_there(expression: Expression, row: Row) -> bool:
    try:
        expression(row)
    except InvalidRow:
        return False
    return True
