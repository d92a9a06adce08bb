"""Rows of CSV and TSV files, and where their quotes are not as they should be."""

from __future__ import annotations

import csv
import io
import json
import re
from array import array
from collections.abc import Iterator, Sequence
from functools import partial

from environments.contracts import EnvironmentFault
from environments.tables.row_file import InvalidRow, Row, row_or_fault
from environments.tables.text_rows import LONGEST_LINE, Lines, TextRows

NO_CSV = "not valid CSV"
RUN_TOGETHER = 10  # lines of one row from which on it is looked at whether it holds others
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


class Csv(TextRows):
    """Comma-separated values, UTF-8, names in the first line; all values are texts, of at most 131,072 characters."""

    delimiter = ","

    def rows(self) -> Iterator[tuple[int, Row | InvalidRow]]:
        lines = Lines(self.path)
        reader = csv.reader(map(lines.text, lines), strict=True, delimiter=self.delimiter)
        while (header := self._next(reader)) == []:
            pass  # blank lines before the names
        self._header = self._checked_header(header)
        starts, at, line = array("q"), lines.end, lines.number + 1
        run_together: list[str] = []
        may_close = True
        while (found := self._next(reader)) is not None:
            if found != []:
                starts.append(at)
                if isinstance(found, InvalidRow):
                    may_close = may_close and self._leave(lines, at)
                span = f"lines {line} to {lines.number}"
                if isinstance(found, InvalidRow):
                    asked = ": is a quote not closed?" if found.kind == NO_CSV else ""
                    more = f"{found.detail}; it takes {span}{asked}".removeprefix("; ")
                    yield line, InvalidRow(found.kind, more) if lines.number > line else found
                else:
                    if lines.number - line >= RUN_TOGETHER and self._holds_rows(found):
                        run_together.append(span)
                    yield line, row_or_fault(partial(self._named, found))
            at, line = lines.end, lines.number + 1
        # where many rows do, that is how the data are, and not a quote too many
        is_rare = len(run_together) <= max(1, len(starts) // 100)
        self.warnings = [self._run_together(run_together)] if run_together and is_rare else []
        self._keep(starts, lines.end)

    def _leave(self, lines: Lines, start: int) -> bool:
        """Go to the end of a row that cannot be read; False: a field is open, and no quote follows that closes it.

        The reader would begin anew with the next line, and take what is inside of a field for rows.
        """
        quotes = _Quotes(self.delimiter)
        for raw in io.BytesIO(self._read(start, min(lines.end, start + LONGEST_LINE))):
            quotes.go_over(raw)
        if not quotes.is_open:
            return True
        ahead = Lines(self.path, lines.end, lines.number)
        for raw in ahead:
            if quotes.begins_row(raw):
                lines.go_to(ahead.start, ahead.number - 1)
                return True
            quotes.go_over(raw)
            if not quotes.is_open:
                lines.go_to(ahead.end, ahead.number)
                return True
        return False  # so the field ended where it began, and the next line is a row

    def _run_together(self, spans: Sequence[str]) -> str:
        what = "a row that holds" if len(spans) == 1 else f"{len(spans):,} rows that hold"
        return (
            f"{self.name} has {what} what look like rows of their own, the first in {spans[0]}: a quote opens there and"
            " closes later than meant; inside of a field a quote is written twice"
        )

    def _holds_rows(self, fields: Sequence[str]) -> bool:
        """Say whether most lines inside of a row's fields have as many fields as the file has columns, two or more."""
        inner = [line for field in fields for line in field.split("\n")[1:-1]]
        own = [next(csv.reader([line], delimiter=self.delimiter), []) for line in inner]
        return len(self._header) > 1 and 2 * sum(len(one) == len(self._header) for one in own) > len(inner)

    def _next(self, reader: Iterator[list[str]]) -> list[str] | InvalidRow | None:
        try:
            return next(reader, None)
        except InvalidRow as invalid:
            return invalid
        except UnicodeDecodeError as error:
            return self._no_utf8(error)
        except csv.Error as error:
            return InvalidRow(NO_CSV, str(error))

    def _checked_header(self, found: list[str] | InvalidRow | None) -> list[str]:
        if found is None:
            wanted = "the names of its columns in the first line"
            raise EnvironmentFault(f"{self.name} is empty: expected {wanted}")
        if not isinstance(found, InvalidRow) and found[0].lower().startswith("sep="):
            raise EnvironmentFault(f"{self.name} begins with Excel's line {found[0]!r}: delete that line")
        if isinstance(found, InvalidRow):
            line = "its first line, the names of the columns"
            raise EnvironmentFault(f"{self.name}: {line}, cannot be read: {found}")
        if twice := sorted({name for name in found if found.count(name) > 1}):
            listed = ", ".join(map(repr, twice))
            raise EnvironmentFault(f"{self.name} has several columns called {listed}: rename them")
        other = next(
            (mark for mark in DELIMITERS if mark != self.delimiter and [mark in name for name in found] == [True]), None
        )
        if other is not None:
            asked = f"is it separated by {DELIMITERS[other]}? Then {self._remedy(other)}"
            raise EnvironmentFault(f"{self.name} has one column, {found[0]!r}: {asked}; if not, rename the column")
        return found

    @staticmethod
    def _remedy(delimiter: str) -> str:
        return f"say `delimiter: {json.dumps(delimiter)}`"

    def _named(self, fields: Sequence[str]) -> Row:
        if len(fields) != len(self._header):
            raise InvalidRow("another number of fields", f"{len(fields)} instead of {len(self._header)}")
        return dict(zip(self._header, fields, strict=True))

    def _parse(self, raw: bytes) -> Row:
        text = io.StringIO(raw.decode(errors="replace"), newline="")  # what is no UTF-8 was found before
        found = self._next(csv.reader(text, strict=True, delimiter=self.delimiter))
        if isinstance(found, InvalidRow):
            raise found
        return self._named(found or [])


class Tsv(Csv):
    """The same, separated by tabs, whatever the option `delimiter` says of CSV."""

    delimiter = "\t"

    @staticmethod
    def _remedy(delimiter: str) -> str:
        return f"name it .csv and say `delimiter: {json.dumps(delimiter)}`"


class _Quotes:
    """Whether a quoted field is open, in rows whose quotes are not all as they should be.

    A quote opens at the beginning of a field and closes at its end; two are one of the text, and so is any other.
    """

    def __init__(self, delimiter: str) -> None:
        self.is_open = False
        mark = re.escape(delimiter.encode())
        self._runs = re.compile(rb'(?P<begins>^|(?<=%b))?(?P<run>"+)(?P<ends>(?=%b|\r|\n|$))?' % (mark, mark))

    def go_over(self, line: bytes) -> None:
        """Go over the next line."""
        for run in self._runs.finditer(line):
            begins, is_odd, ends = run["begins"] is not None, len(run["run"]) % 2 == 1, run["ends"] is not None
            if self.is_open:
                self.is_open = not (is_odd and ends)
            else:
                self.is_open = begins and (is_odd or not ends)

    def begins_row(self, line: bytes) -> bool:
        """Say whether a line looks like the first one of a row, and not like the inside of a field: one opens in it."""
        odd = (run for run in self._runs.finditer(line) if len(run["run"]) % 2)
        first = next((run for run in odd if run["begins"] is not None or run["ends"] is not None), None)
        return first is not None and first["ends"] is None
