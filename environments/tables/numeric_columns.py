"""A number of every row: what a selection of tasks may go by."""

from __future__ import annotations

import difflib
import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from environments.contracts import EnvironmentFault
from environments.tables.expressions import Expression, Row
from environments.tables.invalid_rows import InvalidRow, shortened
from environments.tables.row_file import RowFile

LOOKED_AT = 20  # rows of a file from which its fields are listed
SAID = 12  # fields listed


@dataclass(frozen=True)
class NumericColumn:
    """The numbers of one field in one file."""

    file: str
    field: str
    values: NDArray[np.float64]  # by row; NaN: missing, inf: something else than a finite number
    fields: Sequence[str]  # what its first rows have, dotted

    @classmethod
    def read(cls, file: RowFile, field: str) -> NumericColumn:
        """Go through a file that nobody else reads.

        Raises:
            ValueError: the field is neither a path nor an expression.
        """
        expression = Expression(field)
        fields = list(dict.fromkeys(name for row in file.head(LOOKED_AT) for name in _fields(row)))
        file.narrow(expression.columns)
        values = array("d", (_number(expression, row) for _, row in file.rows()))
        return cls(file.name, field, np.frombuffer(values, np.float64), fields)

    def of(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Give the numbers of some rows.

        Raises:
            EnvironmentFault: one of them has something else there.
        """
        found = self.values[rows]
        wrong = np.flatnonzero(np.isinf(found))
        if len(wrong):
            raise EnvironmentFault(
                f"{self.file}, row {rows[wrong[0]] + 1:,}: {self.field!r} is no number there, so tasks cannot be"
                " chosen by it"
            )
        return found


def nearest_field(field: str, files: Sequence[NumericColumn]) -> str:
    """Propose the field that looks most like one that is not there, or list those there are."""
    known = list(dict.fromkeys(name for file in files for name in file.fields))
    close = difflib.get_close_matches(field, known, n=1)
    if close and close[0] != field:
        return f"did you mean {close[0]!r}?"
    return f"there are: {shortened(', '.join(known[:SAID]))}"


def _number(expression: Expression, row: Row | InvalidRow) -> float:
    """Read a number; texts that are numbers count, because in CSV everything is a text."""
    if isinstance(row, InvalidRow):
        return math.nan
    try:
        value = expression(row)
    except InvalidRow:
        return math.nan
    if value is None or value == "":
        return math.nan
    if isinstance(value, bool):
        return math.inf
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return math.inf
    return math.nan if math.isnan(number) else number if math.isfinite(number) else math.inf


def _fields(row: Row, before: str = "") -> Iterator[str]:
    """Name the fields of a row as paths."""
    for name, value in row.items():
        if isinstance(value, dict):
            yield from _fields(value, f"{before}{name}.")
        else:
            yield f"{before}{name}"
