"""Rows of Parquet and Arrow IPC files, read by column."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from typing import Any

from environments.contracts import EnvironmentFault
from environments.display import brief
from environments.tables.row_file import LONGEST, InvalidRow, Row, RowFile, row_or_fault

BATCH = 1024  # rows turned into Python objects at a time
IPC_FILE = b"ARROW1"  # what Arrow's file format begins with; its stream format has no mark

# What Arrow raises for a value that Python cannot hold: no UTF-8, a struct with two fields of a name, a time out of
# range, a zone that is not known.
UNREADABLE = (ValueError, OverflowError, LookupError)

Columns = list[tuple[str, Any]]  # of a table: name, pyarrow array


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
