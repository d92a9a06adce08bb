"""From a row to a task: the conversation, the category, the truth. Here it shows whether a row is valid."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from itertools import chain, islice
from typing import Any

from environments.contracts import EnvironmentFault, Message
from environments.tables.expressions import Expression, Template
from environments.tables.row_file import InvalidRow, Row, RowFile, row_or_fault, shortened
from environments.tables.text_rows import json_type

ROLES = ("system", "user", "assistant")
LONGEST_NAME = 100  # characters of a category's name
ALL = "all"  # the one category of rows that are not told apart
TRUTHS = ("reward_model.ground_truth", "answer", "ground_truth", "solution")  # verl's place, then columns
HEAD = 100  # rows in which a truth is looked for
PLAIN = (str, int, float, bool, type(None))

Conversation = tuple[Message, ...]


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

    @property
    def columns(self) -> frozenset[str] | None:
        """The columns that are read; None: any of them."""
        return _together(self.prompt, self.truth, self.reference, self.category)

    @property
    def columns_of_tasks(self) -> frozenset[str] | None:
        """Those that making a task reads, once its category is known."""
        return _together(self.prompt, self.truth, self.reference)

    def category_of(self, row: Row) -> str:
        """Name the category of a row: 1 for the number 1.0, true for True."""
        if self.category is None:
            return ALL
        value = self.category(row)
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, int):
            return str(value)
        if isinstance(value, float | Decimal) and math.isfinite(value):
            return str(int(value)) if value == int(value) else str(value)
        if not isinstance(value, str):
            raise InvalidRow("the category is no name", f"found {shortened(repr(value), 80)}")
        if not value.strip():
            raise InvalidRow("the category is empty")
        if not value.isprintable():
            found = f"found {shortened(repr(value), 80)}"
            raise InvalidRow("the category's name cannot be printed", found)
        if len(value) > LONGEST_NAME:
            too_long = f"the category's name is longer than {LONGEST_NAME} characters"
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
        if not messages or messages[-1]["role"] != "user":
            found = f"the last is the {messages[-1]['role']}'s" if messages else "it has no messages"
            raise InvalidRow("the prompt does not end with the user's message", found)
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
        if not isinstance(truth, str) and not _is_plain(truth):
            raise InvalidRow("the truth is no plain data", f"found {shortened(repr(truth), 80)}")
        return truth

    def reference_of(self, row: Row) -> str | None:
        """Give the reference reply that the row brings, if the options name one."""
        if self.reference is None:
            return None
        reply = self.reference(row)
        if isinstance(reply, bool) or not isinstance(reply, str | int | float) or not str(reply).strip():
            raise InvalidRow("the reference is no text", f"found {shortened(repr(reply), 80)}")
        return str(reply)

    def check_row(self, row: Row) -> Conversation:
        """Look at all of a row but its category, and give its conversation."""
        messages = self.conversation(row)
        truth = self.truth_of(row)
        self.reference_of(row)
        try:
            self.check(truth)
        except ValueError as error:
            raise InvalidRow("the truth is refused", str(error)) from error
        return messages


def _together(*expressions: Expression | Template | None) -> frozenset[str] | None:
    read = [expression.columns for expression in expressions if expression is not None]
    known = [columns for columns in read if columns is not None]
    return frozenset().union(*known) if len(known) == len(read) else None


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


def _is_plain(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(one) for key, one in value.items())
    return isinstance(value, PLAIN)


def find_truth(files: Sequence[RowFile], check: Callable[[Any], None]) -> Expression | None:
    """Find the first place at which one of the first rows has a truth; None if there is none and none is needed.

    Raises EnvironmentFault if there is none and the reward's `check`, which then refuses None, needs one.
    """
    rows = list(islice(chain.from_iterable(file.head(HEAD) for file in files), HEAD))
    if not rows:
        return Expression(TRUTHS[0])  # no row can be read: going through them says why
    with_null: list[Expression] = []
    for expression in map(Expression, TRUTHS):
        values: list[object] = [row_or_fault(partial(expression, row)) for row in rows]
        there = [value for value in values if not isinstance(value, InvalidRow)]
        if any(value is not None for value in there):
            return expression
        with_null += [expression] if there else []
    if with_null:
        return with_null[0]
    try:
        check(None)
    except ValueError as error:
        raise EnvironmentFault(
            f"the reward needs a truth, and the first rows have none at {', '.join(TRUTHS)}; their columns are"
            f" {', '.join(map(str, rows[0])) or 'none'}: say which by `truth: COLUMN`"
        ) from error
    return None
