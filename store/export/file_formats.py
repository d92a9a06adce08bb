"""One table into one file, some rows at a time: Parquet or CSV, with the same content.

CSV here: UTF-8, a header, lines end with a line feed, text always between quotes, a null is nothing at all (an
empty text is `""`), floats as Python's `repr`, which reads back exactly, `true` and `false`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

from store.export.rows import Row
from store.export.tables import Column, Kind


def visible(text: str) -> str:
    """Make visible what some reader cannot take, as the ledger's free texts do: NUL, half a surrogate pair."""
    return text.replace("\0", "\u2400").encode("utf-8", "replace").decode()


class Writer(AbstractContextManager["Writer"], ABC):
    """A file that takes rows; whole once it is closed."""

    @abstractmethod
    def __init__(self, path: Path, columns: Sequence[Column]) -> None: ...

    @abstractmethod
    def write(self, rows: Sequence[Row]) -> None:
        """Write some rows; in Parquet a row group."""

    @abstractmethod
    def close(self) -> None:
        """End the file."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ParquetWriter(Writer):
    """Parquet, with nulls only where the column may have them."""

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        types: Mapping[Kind, Any] = {
            "integer": pa.int64(),
            "float": pa.float64(),
            "boolean": pa.bool_(),
            "text": pa.string(),
            "time": pa.string(),
            "json": pa.string(),
        }
        fields = [pa.field(c.name, types[c.kind], nullable=c.nullable) for c in columns]
        self._schema = pa.schema(fields)
        self._file = pq.ParquetWriter(path, self._schema)

    def write(self, rows: Sequence[Row]) -> None:
        """Write some rows; none are no row group."""
        import pyarrow as pa

        if not rows:
            return
        by_column = zip(*rows, strict=True)
        arrays = [pa.array(values, field.type) for values, field in zip(by_column, self._schema, strict=True)]
        self._file.write_table(pa.Table.from_arrays(arrays, schema=self._schema))

    def close(self) -> None:
        """End the file."""
        self._file.close()


class CsvWriter(Writer):
    """CSV by our own hand: Python's writer cannot tell a null from an empty text before 3.12."""

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        self._cells = [_CELLS[column.kind] for column in columns]
        self._file = path.open("w", encoding="utf-8", newline="")
        self._file.write(",".join(column.name for column in columns) + "\n")

    def write(self, rows: Sequence[Row]) -> None:
        """Write some rows."""
        self._file.writelines(
            ",".join(
                "" if value is None else cell(value) for cell, value in zip(self._cells, row, strict=True)
            )
            + "\n"
            for row in rows
        )

    def close(self) -> None:
        """End the file."""
        self._file.close()


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


_CELLS: Mapping[Kind, Callable[[Any], str]] = {
    "integer": str,
    "float": lambda value: repr(float(value)),
    "boolean": lambda value: "true" if value else "false",
    "text": _quoted,
    "time": _quoted,
    "json": _quoted,
}
FORMATS: Mapping[str, type[Writer]] = {"parquet": ParquetWriter, "csv": CsvWriter}
