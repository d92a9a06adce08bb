"""The formats of row files: JSON lines and CSV, read again by place; Parquet and Arrow IPC, read by column."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import weakref
from abc import abstractmethod
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from environments.contracts import EnvironmentFault
from environments.display import brief
from environments.tables.row_file import LONGEST, InvalidRow, Row, RowFile, row_or_fault

NO_JSON, NO_CSV, NO_UTF8 = "not valid JSON", "not valid CSV", "not valid UTF-8"
BOM = b"\xef\xbb\xbf"
JSON_SPACE = " \t\r\n"
LONGEST_LINE = 2**26  # bytes; a file that was never cut into lines must not fill the memory
CHUNK = 2**24  # bytes read at a time where only their line ends are wanted
RUN_TOGETHER = 10  # lines of one row from which on it is looked at whether it holds others
MOST_OPEN = 128  # text files that stay open, as they are where others take their places; more are opened for each row
BATCH = 1024  # rows turned into Python objects at a time
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
# names under which one JSON object holds its rows
HOLDERS = {"data", "rows", "examples", "items", "instances", "records", "questions", "problems", "train", "test"}
IPC_FILE = b"ARROW1"  # what Arrow's file format begins with; its stream format has no mark

# What Arrow raises for a value that Python cannot hold: no UTF-8, a struct with two fields of a name, a time out of
# range, a zone that is not known.
UNREADABLE = (ValueError, OverflowError, LookupError)

Columns = list[tuple[str, Any]]  # of a table: name, pyarrow array


# --- text: only the places of the rows are kept in memory, 8 bytes each ----------------------------------


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
        starts, lines = array("q"), _Lines(self.path)
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


class Csv(TextRows):
    """Comma-separated values, UTF-8, names in the first line; all values are texts, of at most 131,072 characters."""

    delimiter = ","

    def rows(self) -> Iterator[tuple[int, Row | InvalidRow]]:
        lines = _Lines(self.path)
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

    def _leave(self, lines: _Lines, start: int) -> bool:
        """Go to the end of a row that cannot be read; False: a field is open, and no quote follows that closes it.

        The reader would begin anew with the next line, and take what is inside of a field for rows.
        """
        quotes = _Quotes(self.delimiter)
        for raw in io.BytesIO(self._read(start, min(lines.end, start + LONGEST_LINE))):
            quotes.go_over(raw)
        if not quotes.is_open:
            return True
        ahead = _Lines(self.path, lines.end, lines.number)
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


class _Lines:
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


# --- Arrow -----------------------------------------------------------------------------------------------


class ArrowRows(RowFile):
    """Rows of an Arrow table."""

    is_mapped = False  # from the file, and not decoded: a batch may point outside of itself

    @abstractmethod
    def _load(self, num_rows: int | None = None) -> Any:
        """Give the needed columns as a pyarrow.Table; with `num_rows` the first rows, all columns, little else read."""

    @cached_property
    def _table(self) -> Any:
        with self._readable():
            return self._narrowed(self._load())

    @cached_property
    def _columns(self) -> Columns:
        return _columns(self._table)

    def narrow(self, columns: Set[str] | None) -> None:
        super().narrow(columns)
        if "_table" in self.__dict__:
            self._table = self._narrowed(self._table)
            self.__dict__.pop("_columns", None)

    def rows(self) -> Iterator[tuple[int, Row | InvalidRow]]:
        yield from enumerate((row for batch in self._batches(self._table) for row in _rows(batch)), 1)

    def row(self, number: int) -> Row:
        self._require_unchanged()
        return _row(self._columns, number)

    def whole(self, row: Row) -> Row:
        return {**self._example, **row}

    @cached_property
    def _example(self) -> Row:
        return next(iter(self.head(1)), {})

    def head(self, n: int) -> list[Row]:
        with self._readable():
            head = self._load(n)
            self._require_once(head.column_names)
        return [row for batch in self._batches(head) for row in _readable_cells(batch)]

    def _batches(self, table: Any) -> Iterator[Any]:  # each looked at before anything of it is read
        for batch in table.to_batches():
            self._require_unchanged()
            if self.is_mapped:
                with self._readable():
                    batch.validate()
                    for column in batch.columns:
                        is_plain = not _has_extension(column.type)  # a view of one with parts ends the process
                        (column.view(_as_bytes(column.type)) if is_plain else column).validate(full=True)
            for start in range(0, batch.num_rows, BATCH):
                self._require_unchanged()
                yield batch.slice(start, BATCH)

    @cached_property
    def _first_seen(self) -> os.stat_result:
        return self.path.stat()

    def _require_unchanged(self) -> None:
        """Refuse a mapped file that was written over: to read what is no longer there would end the process."""
        if not self.is_mapped:
            return
        first = self._first_seen
        try:
            now = self.path.stat()
        except FileNotFoundError:  # what is mapped stays
            return
        is_other = now.st_ino != first.st_ino  # and the mapped one stays as it is
        if not is_other and (now.st_size, now.st_mtime_ns) != (first.st_size, first.st_mtime_ns):
            raise EnvironmentFault(
                f"{self.name} was written over while it was in use: start again, with a file that stays as it is"
            )

    def _narrowed(self, table: Any) -> Any:
        self._require_once(table.column_names)
        wanted = self.columns
        return table if wanted is None else table.select([n for n in table.column_names if n in wanted])

    def _require_once(self, names: Iterable[str]) -> None:
        if twice := sorted(name for name, n in Counter(names).items() if n > 1):
            raise EnvironmentFault(f"{self.name} has several columns called {', '.join(twice)}: rename them")

    @contextmanager
    def _readable(self) -> Iterator[None]:
        import pyarrow

        try:
            yield
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            why = brief(str(error), LONGEST).rstrip(".")
            raise EnvironmentFault(
                f"{self.name} cannot be read: {why}. It may be damaged or cut off: copy or write it again"
            ) from error


class Parquet(ArrowRows):
    """A Parquet file."""

    def _load(self, num_rows: int | None = None) -> Any:
        import pyarrow.parquet

        with pyarrow.parquet.ParquetFile(self.path, memory_map=num_rows is None) as file:
            if num_rows is not None:
                first = next(file.iter_batches(batch_size=num_rows), None)
                return file.schema_arrow.empty_table() if first is None else pyarrow.table(first)
            wanted = self.columns
            names = None if wanted is None else [n for n in file.schema_arrow.names if n in wanted]
            return file.read(columns=names)


class ArrowIpc(ArrowRows):
    """An Arrow file as Hugging Face `datasets` saves it, or as Feather does."""

    is_mapped = True

    def _load(self, num_rows: int | None = None) -> Any:
        import pyarrow

        self._require_unchanged()
        source = pyarrow.memory_map(str(self.path))
        is_file = source.read(len(IPC_FILE)) == IPC_FILE
        source.seek(0)
        opened = pyarrow.ipc.open_file(source) if is_file else pyarrow.ipc.open_stream(source)
        return opened.read_all().slice(0, num_rows)


def _has_extension(type_: Any) -> bool:
    """Say whether a type is one that extends Arrow's, as that of tensors does, or has one inside."""
    import pyarrow as pa

    if pa.types.is_dictionary(type_):
        return _has_extension(type_.value_type)
    is_one = isinstance(type_, pa.BaseExtensionType)
    return is_one or any(_has_extension(type_.field(i).type) for i in range(type_.num_fields))


def _as_bytes(type_: Any) -> Any:
    """Give the type that takes texts for bytes: that one is no UTF-8 is a matter of its row, not of the file."""
    import pyarrow as pa

    if pa.types.is_dictionary(type_):
        return pa.dictionary(type_.index_type, _as_bytes(type_.value_type), type_.ordered)
    if pa.types.is_map(type_):
        return pa.map_(_as_bytes(type_.key_type), _as_bytes(type_.item_type))
    inside = [type_.field(i) for i in range(type_.num_fields)]
    inside = [field.with_type(_as_bytes(field.type)) for field in inside]
    if pa.types.is_struct(type_):
        return pa.struct(inside)
    if pa.types.is_list(type_):
        return pa.list_(*inside)
    if pa.types.is_large_list(type_):
        return pa.large_list(*inside)
    if pa.types.is_fixed_size_list(type_):
        return pa.list_(*inside, type_.list_size)
    texts = {
        pa.string(): pa.binary(),
        pa.large_string(): pa.large_binary(),
        pa.string_view(): pa.binary_view(),
    }
    return texts.get(type_, type_)


def _columns(table: Any) -> Columns:  # of a table or a batch
    return list(zip(table.schema.names, table.columns, strict=True))


def _row(columns: Columns, number: int) -> Row:
    try:
        return {name: column[number].as_py() for name, column in columns}
    except UNREADABLE as error:
        raise InvalidRow("a value cannot be read", str(error)) from error


def _rows(table: Any) -> list[Row | InvalidRow]:
    """Turn a table or batch into Python objects; one by one where one of them cannot be."""
    if not table.num_columns:
        return [{} for _ in range(table.num_rows)]
    try:
        return list(table.to_pylist())
    except UNREADABLE:
        columns = _columns(table)
        return [row_or_fault(partial(_row, columns, number)) for number in range(table.num_rows)]


def _readable_cells(table: Any) -> Iterator[Row]:
    """Turn a table or batch into Python objects, without the values that cannot be: nobody may read their columns."""
    columns = _columns(table)
    for number in range(table.num_rows):
        row = {}
        for name, column in columns:
            with suppress(*UNREADABLE):
                row[name] = column[number].as_py()
        yield row
