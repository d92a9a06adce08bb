"""One table into one file, some rows at a time: Parquet or CSV, with the same content.

CSV here: UTF-8, a header, lines end with a line feed, text always between quotes, a null is nothing at all (an
empty text is `""`), floats as Python's `repr`, which reads back exactly, `true` and `false`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from store.export.rows import Row
from store.export.tables import Column, Kind


class ParquetWriter:
    """Parquet, with nulls only where the column may have them."""

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        types = {"integer": pa.int64(), "float": pa.float64(), "boolean": pa.bool_()}
        fields = [pa.field(c.name, types.get(c.kind, pa.string()), nullable=c.nullable) for c in columns]
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


class CsvWriter:
    """CSV by our own hand: Python's writer cannot tell a null from an empty text before 3.12."""

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        self._cells = [_CELLS[column.kind] for column in columns]
        self._file = path.open("w", encoding="utf-8", newline="")
        self._file.write(",".join(column.name for column in columns) + "\n")

    def write(self, rows: Sequence[Row]) -> None:
        """Write some rows."""
        for row in rows:
            cells = zip(self._cells, row, strict=True)
            self._file.write(",".join("" if value is None else cell(value) for cell, value in cells) + "\n")

    def close(self) -> None:
        """End the file."""
        self._file.close()


_CELLS: Mapping[Kind, Callable[[Any], str]] = {
    "integer": str,
    "float": lambda value: repr(float(value)),
    "boolean": lambda value: "true" if value else "false",
    **dict.fromkeys(("text", "time", "json"), lambda text: '"' + text.replace('"', '""') + '"'),
}
Writer = ParquetWriter | CsvWriter  # a file that takes rows; whole once it is closed
FORMATS: Mapping[str, type[Writer]] = {"parquet": ParquetWriter, "csv": CsvWriter}
