"""Rows in Arrow's formats: Parquet, read into memory by the columns needed; Arrow IPC, mapped from the file."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any

from environments.contracts import EnvironmentFault
from environments.foreign_text import brief
from environments.tables.row_file import LONGEST, InvalidRow, Row, RowFile, row_or_fault

BATCH = 1024  # rows turned into Python objects at a time
IPC_FILE = b"ARROW1"  # what Arrow's file format begins with; its stream format has no mark

Columns = list[tuple[str, Any]]  # of a table: name, pyarrow array


class ArrowRows(RowFile):
    """Rows of an Arrow table."""

    is_mapped = False  # from the file, and not decoded: a batch may point outside of itself

    @abstractmethod
    def _load(self, num_rows: int | None = None) -> Any:
        """Give the table (a pyarrow.Table), with no more than the columns needed where that spares reading.

        With `num_rows`: the first rows with all columns, reading little else.
        """

    @cached_property
    def _table(self) -> Any:
        with self._readable():
            return self._narrowed(self._load())

    @cached_property
    def _columns(self) -> Columns:
        return _columns(self._table)

    def narrow(self, columns: Set[str] | None) -> None:
        """Read these columns only, and let go of the others."""
        super().narrow(columns)
        if "_table" in self.__dict__:
            self.__dict__["_table"] = self._narrowed(self._table)
            self.__dict__.pop("_columns", None)

    def rows(self) -> Iterator[tuple[int, Row | InvalidRow]]:
        """Go through the rows, a batch at a time."""
        yield from enumerate((row for batch in self._batches(self._table) for row in _rows(batch)), 1)

    def row(self, number: int) -> Row:
        """Read a row, column by column."""
        return _row(self._columns, number)

    def head(self, n: int) -> list[Row]:
        """Give the first rows without reading the others."""
        with self._readable():
            head = self._load(n)
            self._require_once(head.column_names)
        rows = (row for batch in self._batches(head) for row in _rows(batch))
        return [row for row in rows if not isinstance(row, InvalidRow)]

    def _batches(self, table: Any) -> Iterator[Any]:
        """Cut a table into batches, each looked at before anything of it is read."""
        for batch in table.to_batches():
            if self.is_mapped:
                with self._readable():
                    batch.validate()
                    for column in batch.columns:
                        column.view(_as_bytes(column.type)).validate(full=True)
            yield from (batch.slice(start, BATCH) for start in range(0, batch.num_rows, BATCH))

    def _narrowed(self, table: Any) -> Any:
        self._require_once(table.column_names)
        wanted = self.columns
        return table if wanted is None else table.select([n for n in table.column_names if n in wanted])

    def _require_once(self, names: Iterable[str]) -> None:
        twice = sorted(name for name, n in Counter(names).items() if n > 1)
        if twice:
            raise EnvironmentFault(f"{self.name} has several columns called {', '.join(twice)}: rename them")

    @contextmanager
    def _readable(self) -> Iterator[None]:
        import pyarrow

        try:
            yield
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise EnvironmentFault(
                f"{self.name} cannot be read: {brief(str(error), LONGEST)}. It may be damaged or cut off: copy or write"
                " it again"
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

        source = pyarrow.memory_map(str(self.path))
        is_file = source.read(len(IPC_FILE)) == IPC_FILE
        source.seek(0)
        opened = pyarrow.ipc.open_file(source) if is_file else pyarrow.ipc.open_stream(source)
        return opened.read_all().slice(0, num_rows)


def _as_bytes(type_: Any) -> Any:
    """Give the type that takes texts for bytes: that one is no UTF-8 is a matter of its row, not of the file."""
    import pyarrow as pa

    plain = {
        pa.string(): pa.binary(),
        pa.large_string(): pa.large_binary(),
        pa.string_view(): pa.binary_view(),
    }
    if pa.types.is_dictionary(type_):
        return pa.dictionary(type_.index_type, _as_bytes(type_.value_type), type_.ordered)
    if pa.types.is_map(type_):
        return pa.map_(_as_bytes(type_.key_type), _as_bytes(type_.item_type))

    def inside(field: Any) -> Any:
        return field.with_type(_as_bytes(field.type))

    if pa.types.is_struct(type_):
        return pa.struct([inside(field) for field in type_])
    if pa.types.is_list(type_):
        return pa.list_(inside(type_.value_field))
    if pa.types.is_large_list(type_):
        return pa.large_list(inside(type_.value_field))
    if pa.types.is_fixed_size_list(type_):
        return pa.list_(inside(type_.value_field), type_.list_size)
    return plain.get(type_, type_)


def _columns(table: Any) -> Columns:  # of a table or a batch
    return list(zip(table.schema.names, table.columns, strict=True))


def _row(columns: Columns, number: int) -> Row:
    try:
        return {name: column[number].as_py() for name, column in columns}
    except ValueError as error:  # invalid UTF-8, a struct with two fields of a name, a time out of range
        raise InvalidRow("a value cannot be read", str(error)) from error


def _rows(table: Any) -> list[Row | InvalidRow]:
    """Turn a table or batch into Python objects; one by one where one of them cannot be."""
    if not table.num_columns:
        return [{} for _ in range(table.num_rows)]
    try:
        return list(table.to_pylist())
    except ValueError:
        columns = _columns(table)
        return [row_or_fault(partial(_row, columns, number)) for number in range(table.num_rows)]
