"""Rows as text: JSON lines and CSV. Only the places of the rows are kept in memory, 8 bytes each."""

from __future__ import annotations

import csv
import io
import json
import os
import weakref
from abc import abstractmethod
from array import array
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from environments.contracts import EnvironmentFault
from environments.tables.row_file import InvalidRow, Row, RowFile, row_or_fault

BOM = b"\xef\xbb\xbf"
JSON_SPACE = " \t\r\n"
LONGEST_LINE = 2**26  # bytes; a file that was never cut into lines must not fill the memory


class TextRows(RowFile):
    """Rows that are read again from the bytes between two places."""

    _starts: NDArray[np.int64]  # byte offsets of the rows, and where the last one ends

    @abstractmethod
    def _parse(self, raw: bytes) -> Row:
        """Read one row from its bytes."""

    def row(self, number: int) -> Row:
        """Read a row from its place in the file."""
        start, end = int(self._starts[number]), int(self._starts[number + 1])
        return self._parse(os.pread(self._handle, end - start, start))

    @cached_property
    def _handle(self) -> int:
        handle = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, handle)
        return handle

    def _keep(self, starts: array[int], end: int) -> None:
        starts.append(end)
        self._starts = np.frombuffer(starts, dtype=np.int64)


class JsonLines(TextRows):
    """A JSON object a line, UTF-8; blank lines are nothing."""

    def rows(self) -> Iterator[tuple[int, Row | InvalidRow]]:
        """Go through the lines."""
        starts, at = array("q"), 0
        lines = _Lines(self.path)
        for raw in lines:
            if raw and not raw.isspace():
                starts.append(lines.start)
                yield lines.number, _too_long() if lines.is_cut else row_or_fault(partial(self._parse, raw))
            at = lines.end
        self._keep(starts, at)

    def _parse(self, raw: bytes) -> Row:
        try:
            text = raw.decode().strip(JSON_SPACE)
            row, end = _JSON.raw_decode(text)
        except UnicodeDecodeError as error:
            raise InvalidRow("not valid UTF-8", str(error)) from error
        except RecursionError as error:
            raise InvalidRow("not valid JSON", "nested too deeply") from error
        except json.JSONDecodeError as error:
            raise InvalidRow("not valid JSON", f"{error.msg} at character {error.pos + 1}") from error
        except ValueError as error:  # NaN, a number of thousands of digits
            raise InvalidRow("not valid JSON", str(error)) from error
        if end < len(text):
            raise InvalidRow("not valid JSON", f"more than one value, the second at character {end + 1}")
        if not isinstance(row, dict):
            raise InvalidRow("not an object", f"expected {{...}}, found {json_type(row)}")
        return row


class Csv(TextRows):
    """Comma-separated values, UTF-8, the columns' names in the first line; every value is a text.

    Quoted values may hold commas, quotes and line ends, up to the 131,072 characters that Python's reader takes.
    """

    def rows(self) -> Iterator[tuple[int, Row | InvalidRow]]:
        """Go through the rows; a row that spans several lines has the number of its first."""
        lines = _Lines(self.path)
        reader = csv.reader(_Text(lines), strict=True)
        self._header = self._checked_header(self._next(reader))
        starts, at = array("q"), lines.end
        while True:
            line = lines.number + 1
            found = self._next(reader)
            if found is None:
                break
            if found != []:
                starts.append(at)
                row = row_or_fault(partial(self._named, found)) if isinstance(found, list) else found
                yield line, row
            at = lines.end
        self._keep(starts, lines.end)

    @staticmethod
    def _next(reader: Iterator[list[str]]) -> list[str] | InvalidRow | None:
        try:
            return next(reader, None)
        except InvalidRow as invalid:
            return invalid
        except UnicodeDecodeError as error:
            return InvalidRow("not valid UTF-8", str(error))
        except csv.Error as error:
            return InvalidRow("not valid CSV", str(error))

    def _checked_header(self, found: list[str] | InvalidRow | None) -> list[str]:
        if found is None:
            raise EnvironmentFault(
                f"{self.name} is empty: expected the names of its columns in the first line"
            )
        if isinstance(found, InvalidRow):
            raise EnvironmentFault(
                f"{self.name}: its first line, the names of the columns, cannot be read: {found}"
            )
        twice = sorted({name for name in found if found.count(name) > 1})
        if twice:
            raise EnvironmentFault(
                f"{self.name} has several columns called {', '.join(map(repr, twice))}: rename them"
            )
        return found

    def _named(self, fields: Sequence[str]) -> Row:
        if len(fields) != len(self._header):
            raise InvalidRow("another number of fields", f"{len(fields)} instead of {len(self._header)}")
        return dict(zip(self._header, fields, strict=True))

    def _parse(self, raw: bytes) -> Row:
        text = io.StringIO(raw.decode(errors="replace"), newline="")  # what is no UTF-8 was found before
        found = self._next(csv.reader(text, strict=True))
        if isinstance(found, InvalidRow):
            raise found
        return self._named(found or [])


class _Lines:
    """The lines of a file as bytes, with the number, start and end of the one given last."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = self.start = self.end = 0
        self.is_cut = False

    def __iter__(self) -> Iterator[bytes]:
        with io.BufferedReader(io.FileIO(self.path), 2**20) as file:
            if file.peek(3)[:3] == BOM:
                self.end = len(file.read(3))
            for raw in iter(partial(file.readline, LONGEST_LINE), b""):
                self.number += 1
                self.start, self.end = self.end, self.end + len(raw)
                self.is_cut = len(raw) == LONGEST_LINE and not raw.endswith(b"\n")
                rest = raw if self.is_cut else b""
                while rest and not rest.endswith(b"\n"):  # go to the end of the line
                    rest = file.readline(LONGEST_LINE)
                    self.end += len(rest)
                yield raw


class _Text:
    """The lines as text: an iterator that goes on after it raised, which a generator does not."""

    def __init__(self, lines: _Lines) -> None:
        self._lines, self._source = lines, iter(lines)

    def __iter__(self) -> _Text:
        return self

    def __next__(self) -> str:
        raw = next(self._source)
        if self._lines.is_cut:
            raise _too_long()
        return raw.decode()


def _too_long() -> InvalidRow:
    return InvalidRow(f"a line longer than {LONGEST_LINE // 2**20} MiB")


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON; write null")


_JSON = json.JSONDecoder(parse_constant=_refuse_constant)


def json_type(value: Any) -> str:
    """Name the type of a value as a person who writes JSON would."""
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false", int: "a number"}
    kinds |= {float: "a number", type(None): "null"}
    return kinds.get(type(value), type(value).__name__)
