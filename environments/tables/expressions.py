"""Expressions over the columns of a row: dotted paths, Jinja expressions, Jinja templates; columns of numbers.

A path such as `extra_info.difficulty` is walked without Jinja. Everything else is Jinja in its sandbox: columns are
names, `row` is the whole row (`row["my column"]`), and what is not there is an error, never an empty text.
"""

from __future__ import annotations

import difflib
import math
import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, Undefined, meta
from jinja2.exceptions import TemplateRuntimeError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from numpy.typing import NDArray

from environments.contracts import EnvironmentFault
from environments.tables.row_file import InvalidRow, Row, RowFile, row_or_fault, shortened

PATH = re.compile(r"[^\W\d]\w*(\.\w+)*")
WHOLE_ROW = "row"
LOOKED_AT = 20  # rows of a file from which its fields are listed
LISTED_FIELDS = 12
# What an expression may raise where a row is not as it expects; anything else is a defect of ours.
FAILING = (TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


def _not_none(value: Any) -> Any:
    if value is None:
        raise TemplateRuntimeError("a value in it is null")
    return value


_JINJA = ImmutableSandboxedEnvironment(undefined=StrictUndefined, finalize=_not_none, autoescape=False)
_JINJA.globals.clear()  # a name is a column; `range` or `dict` would hide that one is missing


class Expression:
    """A value worked out from a row; raises ValueError if the text is neither a path nor a Jinja expression.

    `columns` are those that it reads; None: any.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._parts = text.split(".") if PATH.fullmatch(text) else None
        if self._parts:
            self.columns: frozenset[str] | None = frozenset({self._parts[0], text})
        else:
            self.columns = _columns(f"{{{{ ({text}) }}}}", text)
            self._formula = _JINJA.compile_expression(text, undefined_to_none=False)

    def __call__(self, row: Row) -> Any:
        """Work out the value for a row; InvalidRow where a column is missing, or the expression fails on it."""
        if self.text in row:
            return row[self.text]
        if self._parts is None:
            return _attempt(self.text, self._formula, row)
        value: Any = row
        for part in self._parts:
            if isinstance(value, dict) and part in value:
                value = value[part]
            elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
                value = value[int(part)]
            else:
                columns = f"the columns are {', '.join(map(str, row)) or 'none'}"
                raise InvalidRow(f"nothing at {self.text!r}", "" if self._parts[0] in row else columns)
        return value


class Template:
    """A text made from a row: Jinja over its columns; `columns` as an expression has them."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.columns = _columns(text, text)
        self._template = _JINJA.from_string(text)

    def __call__(self, row: Row) -> str:
        """Write the text for a row; InvalidRow where a column is missing or null, or the template fails on it."""
        return str(_attempt("the template", self._template.render, row))


def _columns(source: str, text: str) -> frozenset[str] | None:
    try:
        names = meta.find_undeclared_variables(_JINJA.parse(source))
    except TemplateSyntaxError as error:
        raise ValueError(
            f"{text!r} is neither a column path (extra_info.difficulty) nor Jinja: {error.message};"
            ' a column of any other name is row["its name"]'
        ) from error
    return None if WHOLE_ROW in names else frozenset(names)


def _attempt(what: str, jinja: Callable[[Row], Any], row: Row) -> Any:
    try:
        value = jinja(row if WHOLE_ROW in row else {**row, WHOLE_ROW: row})
        return str(value) if isinstance(value, Undefined) else value  # a strict one raises: what is missing
    except FAILING as error:
        raise InvalidRow(f"{what} fails", str(error) or type(error).__name__) from error


@dataclass(frozen=True)
class NumericColumn:
    """The numbers of one field in one file: what a selection of tasks may go by."""

    file: str
    field: str
    values: NDArray[np.float64]  # by row; NaN: missing, inf: something else than a finite number
    fields: Sequence[str]  # what its first rows have, dotted

    @classmethod
    def read(cls, file: RowFile, field: str) -> NumericColumn:
        """Go through a file that nobody else reads; ValueError where the field is no path and no expression."""
        expression = Expression(field)
        fields = list(dict.fromkeys(name for row in file.head(LOOKED_AT) for name in _fields(row)))
        file.narrow(expression.columns)
        values = array("d", (_number_at(expression, row) for _, row in file.rows()))
        return cls(file.name, field, np.frombuffer(values, np.float64), fields)

    def of(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Give the numbers of some rows; raises EnvironmentFault if one of them has something else there."""
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
    return f"there are: {shortened(', '.join(known[:LISTED_FIELDS]))}"


def _number_at(expression: Expression, row: Row | InvalidRow) -> float:
    """Read a number; texts that are numbers count, because in CSV everything is a text."""
    value: Any = row if isinstance(row, InvalidRow) else row_or_fault(lambda: expression(row))
    if isinstance(value, InvalidRow) or value is None or value == "":
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
