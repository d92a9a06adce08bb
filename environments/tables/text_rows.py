"""Rows of a text file, of which only the places are kept in memory, 8 bytes each; and JSON lines."""

from __future__ import annotations

import io
import json
import os
import shlex
import weakref
from abc import abstractmethod
from array import array
from collections.abc import Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from environments.contracts import EnvironmentFault
from environments.tables.row_file import InvalidRow, Row, RowFile, row_or_fault

NO_JSON, NO_UTF8 = "not valid JSON", "not valid UTF-8"
BOM = b"\xef\xbb\xbf"
JSON_SPACE = " \t\r\n"
LONGEST_LINE = 2**26  # bytes; a file that was never cut into lines must not fill the memory
CHUNK = 2**24  # bytes read at a time where only their line ends are wanted
MOST_OPEN = 128  # text files that stay open, as they are where others take their places; more are opened for each row
# names under which one JSON object holds its rows
HOLDERS = {"data", "rows", "examples", "items", "instances", "records", "questions", "problems", "train", "test"}


def beside(name: str, word: str, suffix: str | None = None) -> str:
    """Name a file in the current folder that a command may write, with a word behind the stem of this one's name."""
    path = Path(name)
    return shlex.quote(".".join(filter(None, (path.stem, word))) + (path.suffix if suffix is None else suffix))


class TextRows(RowFile):
    """Rows that are read again from the bytes between two places."""

    _starts: NDArray[np.int64]  # byte offsets of the rows, and where the last one ends

    @abstractmethod
    def _parse(self, raw: bytes) -> Row:
        """Read one row from its bytes."""

    def _no_utf8(self, error: UnicodeDecodeError) -> InvalidRow:
        command = f"iconv -f WINDOWS-1252 -t UTF-8 {shlex.quote(self.name)} > {beside(self.name, 'utf8')}"
        return InvalidRow(
            NO_UTF8,
            f"{error.reason} at byte {error.start + 1}; is it Windows-1252? Then `{command}`; if Chinese, GB18030",
        )

    def row(self, number: int) -> Row:
        return self._parse(self._read(int(self._starts[number]), int(self._starts[number + 1])))

    def place(self, number: int) -> str:
        return f"{self.name}:{self._line_numbers[number]}"

    @cached_property
    def _line_numbers(self) -> NDArray[np.int64]:
        """The line on which each row begins, from 1: as many line ends are before it, in one more pass."""
        ends, read = [np.zeros(0, np.int64)], 0
        with self.path.open("rb") as file:
            while piece := file.read(CHUNK):
                ends.append(read + np.flatnonzero(np.frombuffer(piece, np.uint8) == ord("\n")))
                read += len(piece)
        return np.searchsorted(np.concatenate(ends), self._starts[:-1]) + 1

    def _read(self, start: int, end: int) -> bytes:
        if self._handle is not None:
            return os.pread(self._handle, end - start, start)
        with self.path.open("rb", buffering=0) as file:
            return os.pread(file.fileno(), end - start, start)

    @cached_property
    def _handle(self) -> int | None:
        if len(_KEPT_OPEN) >= MOST_OPEN:
            return None
        handle = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, handle)
        _KEPT_OPEN.add(self)
        return handle

    def _keep(self, starts: array[int], end: int) -> None:
        starts.append(end)
        self._starts = np.frombuffer(starts, dtype=np.int64)


_KEPT_OPEN: weakref.WeakSet[TextRows] = weakref.WeakSet()


class JsonLines(TextRows):
    """A JSON object a line, UTF-8; blank lines are nothing."""

    def rows(self) -> Iterator[tuple[int, Row | InvalidRow]]:
        starts, lines = array("q"), Lines(self.path)
        row: Row | InvalidRow = {}
        for raw in lines:
            if not raw.isspace():
                starts.append(lines.start)
                row = _too_long() if lines.is_cut else row_or_fault(partial(self._parse, raw))
                yield lines.number, row
        if len(starts) == 1:
            self._refuse_table(row)
        self._keep(starts, lines.end)

    def _refuse_table(self, row: Row | InvalidRow) -> None:
        """Refuse the one object of a file where it is a whole table, as pandas writes one."""
        if isinstance(row, InvalidRow):
            return
        if (key := _key_of_rows(row)) is not None:
            target = f"{Path(self.name).stem}.rows.jsonl"
            raise EnvironmentFault(
                f"{self.name} is one JSON object that holds rows in {key!r}: write one object a line"
                f" (`jq -c '.[{json.dumps(key)}][]' {self.name} > {target}`)"
            )
        layout = _layout(row)
        if layout is not None:
            orient = "" if layout == "columns" else f', orient="{layout}"'
            target = f"{Path(self.name).stem}.rows.jsonl"
            command = f'pandas.read_json("{self.name}"{orient}).to_json("{target}", orient="records", lines=True)'
            raise EnvironmentFault(
                f"{self.name} is one JSON object that holds a whole table by columns: write one object a line"
                f" (`{command}`)"
            )

    def _parse(self, raw: bytes) -> Row:
        try:
            # of one line: what follows up to the next row is blank, and may be a blank that JSON does not know
            text = raw.partition(b"\n")[0].decode().strip(JSON_SPACE)
            row, end = _JSON.raw_decode(text)
        except UnicodeDecodeError as error:
            raise self._no_utf8(error) from error
        except RecursionError as error:
            raise InvalidRow(NO_JSON, "nested too deeply") from error
        except json.JSONDecodeError as error:
            raise InvalidRow(NO_JSON, f"{error.msg.removesuffix(' at')} at character {error.pos + 1}") from error
        except ValueError as error:  # NaN, a number of thousands of digits
            raise InvalidRow(NO_JSON, str(error)) from error
        if end < len(text):
            raise InvalidRow(NO_JSON, f"more than one value, the second at character {end + 1}")
        if not isinstance(row, dict):
            raise InvalidRow("not an object", f"expected {{...}}, found {json_type(row)}")
        return row


def _key_of_rows(row: Row) -> str | None:
    """Find the list of rows in the one object of a file, as `{"version": ..., "data": [...]}` has it."""
    if set(row) == {"schema", "data"}:
        return None
    for key in HOLDERS & row.keys():  # a row may have a list under another: of options, of turns
        value = row[key]
        are_rows = isinstance(value, list) and len(value) > 1 and all(isinstance(one, dict) and one for one in value)
        if are_rows and not _has_messages(value):
            return key
    return None


def _has_messages(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(one, dict) and "role" in one for one in value)


def _layout(row: Row) -> str | None:
    """Name the layout of an object that is a whole table, as the `orient` of pandas; None: it is a row."""
    values = list(row.values())
    if set(row) == {"columns", "index", "data"}:
        return "split"
    if set(row) == {"schema", "data"}:
        return "table"
    if all(isinstance(one, dict) and [*one] == [*values[0]] for one in values) and values and values[0]:
        return "columns" if all(key.isdecimal() for key in values[0]) else None
    if any(map(_has_messages, values)):  # a conversation: a column of them would hold lists
        return None
    lengths = {len(one) if isinstance(one, list) else 0 for one in values}
    return "columns" if len(values) > 1 and len(lengths) == 1 and min(lengths) > 1 else None


class Lines:
    """The lines of a file as bytes, with the number, start and end of the one given last."""

    def __init__(self, path: Path, start: int = 0, number: int = 0) -> None:
        self.path, self.is_cut = path, False
        self.number = number
        self.start = self.end = start

    def __iter__(self) -> Iterator[bytes]:
        with io.BufferedReader(io.FileIO(self.path), 2**16) as self._file:
            self._file.seek(self.end)
            if self.end == 0 and self._file.peek(3)[:3] == BOM:
                self.end = len(self._file.read(3))
            for raw in iter(partial(self._file.readline, LONGEST_LINE), b""):
                self.number += 1
                self.start, self.end = self.end, self.end + len(raw)
                self.is_cut = len(raw) == LONGEST_LINE and not raw.endswith(b"\n")
                rest = raw if self.is_cut else b""
                while rest and not rest.endswith(b"\n"):  # go to the end of the line
                    rest = self._file.readline(LONGEST_LINE)
                    self.end += len(rest)
                yield raw

    def go_to(self, end: int, number: int) -> None:
        """Go on behind a later line, of which these are end and number."""
        self._file.seek(end)
        self.end, self.number = end, number

    def text(self, raw: bytes) -> str:
        if self.is_cut:
            raise _too_long()
        return raw.decode()


def _too_long() -> InvalidRow:
    return InvalidRow(f"a line longer than {LONGEST_LINE // 2**20} MiB")


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON; write null")


_JSON = json.JSONDecoder(parse_constant=_refuse_constant)
JSON_TYPES = {
    dict: "an object", list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number",
    type(None): "null",
}  # fmt: skip


def json_type(value: Any) -> str:
    """Name the type of a value as a person who writes JSON would."""
    return JSON_TYPES.get(type(value), type(value).__name__)
