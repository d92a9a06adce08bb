"""One file of rows, whatever its format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Set
from itertools import islice
from pathlib import Path

from environments.tables.expressions import Row
from environments.tables.invalid_rows import InvalidRow


class RowFile(ABC):
    """The rows of a file: gone through once in order, then read one by one.

    Args:
        path: where it is.
        name: what messages call it: its path as the user wrote it.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name
        self.columns: Set[str] | None = None  # those that are read; None: all

    def narrow(self, columns: Set[str] | None) -> None:
        """Read no more than these columns from now on, where that spares work."""
        self.columns = columns

    @abstractmethod
    def rows(self) -> Iterator[tuple[int, Row | InvalidRow]]:
        """Go through all rows in the order of the file, each with its line (or row number), from 1.

        A row that cannot be read comes as the reason.

        Raises:
            EnvironmentFault: the file as a whole cannot be read.
        """

    @abstractmethod
    def row(self, number: int) -> Row:
        """Read one row by its place, from 0, among those that `rows` gave; only once `rows` came to its end.

        Raises:
            Broken: it cannot be read.
        """

    def head(self, n: int) -> list[Row]:
        """Give the first `n` rows that can be read, with all their columns."""
        return list(islice((row for _, row in self.rows() if not isinstance(row, InvalidRow)), n))
