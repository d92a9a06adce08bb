"""From a row to a task: expressions over its columns; conversation, category and truth; whether it can be used.

A path such as `extra_info.difficulty` is walked without Jinja. Everything else is Jinja in its sandbox: columns are
names, `row` is the whole row (`row["my column"]`, also beside a column `row`), and what is not there is an error,
never an empty text.
"""

from __future__ import annotations

import difflib
import math
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from functools import lru_cache, partial, wraps
from itertools import chain, islice
from typing import Any

import numpy as np
from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, Undefined, meta
from jinja2.exceptions import TemplateRuntimeError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from numpy.typing import NDArray

from environments.contracts import LONGEST_CATEGORY, ROLES, EnvironmentFault, Message, is_whole
from environments.display import shortened
from environments.tables.row_file import InvalidRow, Row, RowFile, row_or_fault
from environments.tables.text_rows import json_type

PATH = re.compile(r"[^\W\d]\w*(\.\w+)*")
WHOLE_ROW = "row"
MOST_BITS = 14_000  # of a whole number: one of more digits cannot be written
DEEPEST = 100  # lists in lists of what is sent to a process: of thousands it could not be
LOOKED_AT = 20  # rows of a file from which its fields are listed
LISTED_FIELDS = 12
# What an expression may raise where a row is not as it expects; anything else is a defect of ours.
FAILING = (TemplateError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
ALL = "all"  # the one category of rows that are not told apart
TRUTHS = ("reward_model.ground_truth", "answer", "ground_truth", "solution")  # verl's place, then columns
HEAD = 100  # rows in which a truth is looked for

Conversation = tuple[Message, ...]


def _not_none(value: Any) -> Any:
    if value is None:
        raise TemplateRuntimeError("a value in it is null")
    return value


class _Method:
    """A method of a value: to be called, and no text; written out it would be its place in memory."""

    def __init__(self, of: Callable[..., Any], name: object) -> None:
        self.of, self._name = of, name

    def __repr__(self) -> str:
        return f"the method {self._name}"

    def __str__(self) -> str:
        raise TemplateRuntimeError(f"{self!r} is not called: write {self._name}()")


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja that makes the same of the same row in every process: nothing at random, no places in memory."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.globals.clear()  # a name is a column; `range` or `dict` would hide that one is missing
        del self.filters["random"]
        self.filters = {name: _made_whole(of) for name, of in self.filters.items()}

    def getattr(self, obj: Any, attribute: str) -> Any:
        return _no_text(super().getattr(obj, attribute), attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        return _no_text(super().getitem(obj, argument), argument)

    def call(self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # looks at what is called
        return super().call(__context, __obj.of if isinstance(__obj, _Method) else __obj, *args, **kwargs)


def _no_text(value: Any, name: object) -> Any:
    return _Method(value, name) if callable(value) and not isinstance(value, Undefined) else value


def _made_whole(of: Callable[..., Any]) -> Callable[..., Any]:
    """Let a filter give a list where it would give one value after the other, as `map` and `select` do."""

    @wraps(of)
    def made_whole(*args: Any, **kwargs: Any) -> Any:
        value = of(*args, **kwargs)
        return list(value) if isinstance(value, Iterator) else value

    return made_whole


_JINJA = _Sandbox(undefined=StrictUndefined, finalize=_not_none, autoescape=False)


class Expression:
    """A value worked out from a row, reading `columns` (None: any); ValueError if it is neither path nor Jinja.

    `option` is the one that it was given by, which reasons name.
    """

    def __init__(self, text: str, option: str | None = None) -> None:
        self.text, self._by = text, f"`{option}`: " if option else ""
        self._parts = text.split(".") if PATH.fullmatch(text) else None
        if self._parts:
            self.columns: frozenset[str] | None = frozenset({self._parts[0], text})
        else:
            columns = _columns(f"{{{{ ({text}) }}}}", text)
            self.columns = None if columns is None else columns | {text}  # which may be a column's own name
            self._formula = _JINJA.compile_expression(text, undefined_to_none=False)

    def __call__(self, row: Row) -> Any:
        """Work out the value; InvalidRow where a column is missing, or the expression fails."""
        if self.text in row:
            return row[self.text]
        if self._parts is None:
            return _attempt(f"{self._by}{self.text}", self._formula, row)
        value: Any = row
        for part in self._parts:
            if isinstance(value, dict) and part in value:
                value = value[part]
            elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
                value = value[int(part)]
            else:
                raise FieldMissing(self._by, self.text, row)
        return value


class FieldMissing(InvalidRow):
    """A row has nothing at a path; says which fields it has instead."""

    def __init__(self, by: str, path: str, row: Row) -> None:
        fields = dict.fromkeys([*map(str, row), *_fields(row)])
        # the beginning of the path is no way to mend it
        near = _near(path, tuple(name for name in fields if not path.startswith(f"{name}.")))
        has_column = path.partition(".")[0] in row
        columns = "" if has_column else f"the columns are {named(row)}"
        value: Any = row
        begun = list[str]()
        for part in path.split("."):
            if not isinstance(value, dict) or part not in value:
                break
            value = value[part]
            begun.append(part)
        if value is None:  # the path is right, and this row has nothing there
            near, columns = f"{'.'.join(begun)!r} is null", ""
        elif begun and isinstance(value, dict):
            columns = f"{'.'.join(begun)!r} has {named(value)}"
        super().__init__(f"{by}nothing at {path!r}", near + columns)
        self._by, self._path, self.row = by, path, row

    def seen_in(self, row: Row) -> FieldMissing:
        """Say the same of the row with all its columns."""
        return FieldMissing(self._by, self._path, row)


def named(columns: Iterable[object]) -> str:
    """List columns; a name whose ends could not be seen is quoted."""
    names = map(str, columns)
    return ", ".join(repr(one) if one != one.strip() or not one or "," in one else one for one in names) or "none"


@lru_cache(maxsize=64)  # as rows that lack a field mostly have the same ones
def _near(text: str, fields: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(text, fields, n=1)
    return f"did you mean {close[0]!r}? " if close else ""


class Template:
    """A text made from a row: Jinja over its columns."""

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
        is_written_as_text = source != text and "{{" in text
        remedy = (
            "it is an expression by itself, so leave {{ and }} out and join parts by ~"
            if is_written_as_text
            else 'a column of any other name is row["its name"]'
        )
        raise ValueError(
            f"{text!r} is neither a column path (extra_info.difficulty) nor Jinja: {error.message}; {remedy}"
        ) from error
    return None if WHOLE_ROW in names else frozenset(names)


def _attempt(what: str, jinja: Callable[[Row], Any], row: Row) -> Any:
    try:
        value = jinja({**row, WHOLE_ROW: row})
        return str(value) if isinstance(value, Undefined | _Method) else value  # which raises: what is missing
    except FAILING as error:
        raise InvalidRow(f"{what} fails", str(error) or type(error).__name__) from error


@dataclass(frozen=True)
class RowParser:
    """What the options of an environment of rows say about a row, compiled; InvalidRow where it cannot be used."""

    prompt: Expression | Template
    ask: Callable[[str], Conversation]  # puts a question in plain text to the policy
    system: str | None  # put before conversations that rows bring
    category: Expression | None  # None: there is one, ALL
    truth: Expression | None  # None: the reward needs none
    check: Callable[[Any], None]  # raises ValueError where the reward could not use a truth
    reference: Expression | None  # None: the reward's own
    check_others: Callable[[Row], None] | None = None  # the same for the row's other columns; None: it reads none
    truth_in: Callable[[Any, Row], Any] | None = None  # what a truth means in its row; None: what it says

    def columns(self, with_category: bool) -> frozenset[str] | None:
        """Give the columns that are read, without the category those of making a task; None: any of them."""
        expressions = self.prompt, self.truth, self.reference, self.category if with_category else None
        read = [expression.columns for expression in expressions if expression is not None]
        known = [columns for columns in read if columns is not None]
        return frozenset().union(*known) if len(known) == len(read) else None

    def category_of(self, row: Row) -> str:
        """Name the category of a row: 1 for the number 1.0, true for True."""
        if self.category is None:
            return ALL
        value = self.category(row)
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, int) and value.bit_length() <= MOST_BITS:
            value = str(value)
        elif isinstance(value, float | Decimal) and math.isfinite(value):
            value = str(int(value)) if value == int(value) else str(value)
        if not isinstance(value, str):
            raise InvalidRow.found("the category is no name", value, remedy=_as_a_text(value, "category"))
        if not value.strip():
            raise InvalidRow("the category is empty")
        if not value.isprintable():
            raise InvalidRow.found("the category's name cannot be printed", value)
        if len(value) > LONGEST_CATEGORY:
            too_long = f"the category's name is longer than {LONGEST_CATEGORY} characters"
            raise InvalidRow(too_long, shortened(value, 80))
        return value

    def conversation(self, row: Row) -> Conversation:
        """Give what the policy is asked; EnvironmentFault where row and options both bring a system message."""
        given = self.prompt(row)
        if isinstance(given, str):
            if not given.strip():
                raise InvalidRow("the prompt is empty")
            return self.ask(given)
        if not isinstance(given, list):
            found = f"expected a text or a list of messages, found {json_type(given)}"
            raise InvalidRow("the prompt is no conversation", found)
        messages = tuple(map(_message, given))
        if not messages:
            raise InvalidRow("the prompt is empty", "a list without messages")
        if messages[-1]["role"] != "user":
            role = messages[-1]["role"]
            remedy = "; an expression may cut it off: `prompt: COLUMN[:-1]`" if role == "assistant" else ""
            raise InvalidRow("the prompt does not end with the user's message", f"the last is the {role}'s{remedy}")
        if not any(message["content"].strip() for message in messages if message["role"] == "user"):
            raise InvalidRow("the prompt is empty")
        if self.system is None:
            return messages
        if messages[0]["role"] == "system":
            raise EnvironmentFault(
                "its rows bring system messages of their own, and the option `system` gives another:"
                " leave out the option, or the messages"
            )
        return ({"role": "system", "content": self.system}, *messages) if self.system else messages

    def truth_of(self, row: Row) -> Any:
        """Give what the reward compares with, as plain data."""
        if self.truth is None:
            return None
        truth = self.truth(row)
        if truth is None:
            raise InvalidRow("the truth is missing")
        if isinstance(truth, Decimal):  # a column of Parquet; with all its digits, as a CSV would have it
            truth = str(truth)
        if not _is_plain(truth):
            raise InvalidRow.found("the truth is no plain data", truth, remedy=_as_a_text(truth, "truth"))
        return truth if self.truth_in is None else self.truth_in(truth, row)

    def reference_of(self, row: Row) -> str | None:
        """Give the reference reply that the row brings, if the options name one."""
        if self.reference is None:
            return None
        reply = self.reference(row)
        is_text = isinstance(reply, str | int | float) and not isinstance(reply, bool) and _is_plain(reply)
        if not is_text or not str(reply).strip():
            raise InvalidRow.found("the reference is no text", reply)
        return str(reply)

    def check_row(self, row: Row) -> tuple[Conversation, Any]:
        """Look at all of a row but its category, and give its conversation and its truth."""
        messages, truth, reference = self.conversation(row), self.truth_of(row), self.reference_of(row)
        for name, value in (("prompt", messages), ("truth", truth), ("reference", reference)):
            if not is_whole(value):
                raise InvalidRow(f"half a character in the {name}", "a lone surrogate, which no file can hold")
        try:
            self.check(truth)
        except ValueError as error:
            raise InvalidRow("the truth is refused", str(error)) from error
        try:
            if self.check_others is not None:
                _require_shallow(row)
                self.check_others(row)
        except ValueError as error:
            raise InvalidRow("the reward refuses the row", str(error)) from error
        return messages, truth


def _message(given: Any) -> Message:
    if not isinstance(given, dict) or "role" not in given or "content" not in given:
        found = f"expected role and content, found {shortened(repr(given), 80)}"
        raise InvalidRow("the prompt is no conversation", found)
    role, content = given["role"], given["content"]
    if role not in ROLES:
        found = f"{shortened(repr(role), 40)} is not one of {', '.join(ROLES)}"
        raise InvalidRow("a message of another role", found)
    if not isinstance(content, str):
        raise InvalidRow("a message that is no text", f"its content is {json_type(content)}")
    return {"role": role, "content": content}


def _as_a_text(value: Any, option: str) -> str:
    """Say what makes a text of a date or a time; nothing for other values."""
    return f"; `{option}: COLUMN | string` makes a text of it" if isinstance(value, date | time | timedelta) else ""


def _is_plain(value: Any, depth: int = 0) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list):
        return depth < DEEPEST and all(_is_plain(one, depth + 1) for one in value)
    if isinstance(value, dict):
        return depth < DEEPEST and all(isinstance(key, str) and _is_plain(one, depth + 1) for key, one in value.items())
    return value is None or isinstance(value, str) or (isinstance(value, int) and value.bit_length() <= MOST_BITS)


def _require_shallow(row: Row) -> None:
    """Refuse a row that could not be sent to a process, as rewards that read rows have it."""
    for name, value in row.items():
        if _is_deep(value, DEEPEST):
            raise InvalidRow("a column is nested too deeply", f"{name!r}, deeper than {DEEPEST}")


def _is_deep(value: Any, most: int) -> bool:
    """Say whether lists and objects are in each other more than so many times."""
    if not isinstance(value, dict | list):
        return False
    return not most or any(_is_deep(one, most - 1) for one in (value.values() if isinstance(value, dict) else value))


def find_truth(files: Sequence[RowFile], check: Callable[[Any], None]) -> Expression | None:
    """Find the first place where one of the first rows has a truth; None if there is none and `check` needs none."""
    rows = list(islice(chain.from_iterable(file.head(HEAD) for file in files), HEAD))
    if not rows:
        return Expression(TRUTHS[0], "truth")  # no row can be read: going through them says why
    with_null: list[Expression] = []
    for expression in (Expression(text, "truth") for text in TRUTHS):
        values: list[object] = [row_or_fault(partial(expression, row)) for row in rows]
        there = [value for value in values if not isinstance(value, InvalidRow)]
        if any(value is not None for value in there):
            return expression
        if there:
            with_null.append(expression)
    if with_null:
        return with_null[0]
    try:
        check(None)
    except ValueError as error:
        raise EnvironmentFault(
            f"the reward needs a truth, and the first rows have none at {', '.join(TRUTHS)}; their columns are"
            f" {named(rows[0])}: say which by `truth: COLUMN`"
        ) from error
    return None


@dataclass(frozen=True)
class NumericColumn:
    """The numbers of one field in one file: what a selection of tasks may go by."""

    place: Callable[[int], str]  # of a row, for people
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
        return cls(file.place, field, np.frombuffer(values, np.float64), fields)

    def of(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Give the numbers of some rows; raises EnvironmentFault if one of them has something else there."""
        found = self.values[rows]
        if len(wrong := np.flatnonzero(np.isinf(found))):
            fault = f"{self.field!r} is no number there, so tasks cannot be chosen by it"
            raise EnvironmentFault(f"{self.place(int(rows[wrong[0]]))}: {fault}")
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
    try:
        number = math.inf if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.inf
    return abs(number) if math.isinf(number) else number


def _fields(row: Row, before: str = "") -> Iterator[str]:
    for name, value in row.items():
        if isinstance(value, dict):
            yield from _fields(value, f"{before}{name}.")
        else:
            yield f"{before}{name}"
