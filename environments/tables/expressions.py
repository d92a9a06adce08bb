"""Expressions over the columns of a row: dotted paths, Jinja expressions, Jinja templates. Compiled once.

A path such as `extra_info.difficulty` is walked without Jinja. Everything else is Jinja in its sandbox: columns are
names, `row` is the whole row (`row["my column"]`), and what is not there is an error, never an empty text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, Undefined, meta
from jinja2.exceptions import TemplateRuntimeError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from environments.tables.invalid_rows import InvalidRow

Row = Mapping[str, Any]

PATH = re.compile(r"[^\W\d]\w*(\.\w+)*")
WHOLE_ROW = "row"
# What an expression may raise where a row is not as it expects; anything else is a defect of ours.
FAILING = (TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


def _not_none(value: Any) -> Any:
    if value is None:
        raise TemplateRuntimeError("a value in it is null")
    return value


_JINJA = ImmutableSandboxedEnvironment(undefined=StrictUndefined, finalize=_not_none, autoescape=False)
_JINJA.globals.clear()  # a name is a column; `range` or `dict` would hide that one is missing


class Expression:
    """A value worked out from a row.

    Attributes:
        columns: the columns it reads; None: any.

    Raises:
        ValueError: it is neither a path nor a Jinja expression, and why.
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
        """Work out the value for a row.

        Raises:
            Broken: a column is missing, or the expression fails on this row.
        """
        if self.text in row:
            return row[self.text]
        return self._evaluate(row) if self._parts is None else self._walk(row, self._parts)

    def _walk(self, row: Row, parts: list[str]) -> Any:
        value: Any = row
        for part in parts:
            if isinstance(value, dict) and part in value:
                value = value[part]
            elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
                value = value[int(part)]
            else:
                raise InvalidRow(f"nothing at {self.text!r}", _there(row, parts[0]))
        return value

    def _evaluate(self, row: Row) -> Any:
        return _attempt(self.text, lambda: _defined(self._formula(_names(row))))


class Template:
    """A text made from a row: Jinja over its columns; `columns` as an expression has them."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.columns = _columns(text, text)
        self._template = _JINJA.from_string(text)

    def __call__(self, row: Row) -> str:
        """Write the text for a row.

        Raises:
            Broken: a column is missing or null, or the template fails on this row.
        """
        return str(_attempt("the template", lambda: self._template.render(_names(row))))


def _columns(source: str, text: str) -> frozenset[str] | None:
    try:
        names = meta.find_undeclared_variables(_JINJA.parse(source))
    except TemplateSyntaxError as error:
        raise ValueError(
            f"{text!r} is neither a column path (extra_info.difficulty) nor Jinja: {error.message};"
            ' a column of any other name is row["its name"]'
        ) from error
    return None if WHOLE_ROW in names else frozenset(names)


def _names(row: Row) -> Row:
    return row if WHOLE_ROW in row else {**row, WHOLE_ROW: row}


def _defined(value: Any) -> Any:
    return (
        str(value) if isinstance(value, Undefined) else value
    )  # a strict one raises, and says what is missing


def _attempt(what: str, work: Callable[[], Any]) -> Any:
    try:
        return work()
    except FAILING as error:
        raise InvalidRow(f"{what} fails", str(error) or type(error).__name__) from error


def _there(row: Row, first: str) -> str:
    """Say what there is instead: the columns, or that it is further down."""
    return "" if first in row else f"the columns are {', '.join(map(str, row)) or 'none'}"
