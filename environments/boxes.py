"""Boxes: parameters of a task generator as a choice, encoded in the index of a task.

Everything else knows a task as (category, index): it is split into pools, drawn, scored, evaluated and drawn again
after a crash by that alone. So a box of parameters is cut into a lattice of cells, and an index tells the cell:

    index = number * num_cells + place of the cell

where the places are a fixed shuffle. Indices 0, 1, 2, ... then sweep the box, the first of them are spread over it, and
an evaluation of the first tasks is one of the whole box.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Values = dict[str, int | float]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # what splitmix64 counts by

LEVELS = 64  # of a dimension, at most; fewer where there would be too many cells
MOST_CELLS = 2**18  # leaves every cell its 4096 tasks
INDICES = 2**30  # an index stays below, so that added to a generator's seed it fits 32 bits


@dataclass(frozen=True)
class Box:
    """The ranges of d parameters, both ends included, and the lattice of numbered cells that they are cut into.

    A whole-number dimension of up to `LEVELS` values has them all as its levels; any other has as many levels as fit,
    evenly spread from end to end. A teacher's view is the unit box, where levels are equally wide. Raises ValueError if
    there is no dimension or too many, an empty range, or a range of whole numbers with other ends.
    """

    names: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    whole: tuple[bool, ...]  # of each dimension: it takes whole numbers only

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.low) == len(self.high) == len(self.whole) > 0:
            raise ValueError("a box needs names, low, high and whole of one length, at least 1")
        for name, low, high, whole in zip(self.names, self.low, self.high, self.whole, strict=True):
            if not -math.inf < low < high < math.inf:
                fault = "a range goes up, from one finite number to another"
                raise ValueError(f"{name}: {fault}, not {low} to {high}")
            if whole and not (float(low).is_integer() and float(high).is_integer()):
                fault = "a range of whole numbers ends at whole numbers"
                raise ValueError(f"{name}: {fault}, not {low} to {high}")
        if self.num_cells > MOST_CELLS:
            raise ValueError(f"a box of {self.num_dims} parameters has too many corners; it takes 18 at most")

    @property
    def num_dims(self) -> int:
        """d."""
        return len(self.names)

    @cached_property
    def levels(self) -> tuple[int, ...]:
        """How many levels each dimension has, at least 2."""
        ranges = zip(self.low, self.high, self.whole, strict=True)
        there = [int(high - low) + 1 if whole else LEVELS for low, high, whole in ranges]
        most = LEVELS
        while most > 2 and math.prod(min(num, most) for num in there) > MOST_CELLS:
            most -= 1
        return tuple(min(num, most) for num in there)

    @property
    def num_cells(self) -> int:
        """How many cells there are: the product of the levels."""
        return math.prod(self.levels)

    @property
    def num_tasks(self) -> int:
        """How many tasks a cell has: `index` takes numbers below this."""
        return INDICES // self.num_cells

    def cell_of(self, point: NDArray[np.float64]) -> int:
        """Find the cell that a point [d] of the unit box lies in."""
        levels = np.array(self.levels)
        at = np.clip((np.asarray(point) * levels).astype(np.int64), 0, levels - 1)
        return int(np.ravel_multi_index(tuple(at), self.levels))

    def values(self, cell: int) -> Values:
        """Give the parameters of a cell by name; the outermost levels are exactly the ends of a range."""
        values: Values = {}
        for k, level in enumerate(np.unravel_index(cell, self.levels)):
            share = int(level) / (self.levels[k] - 1)
            value = self.low[k] * (1 - share) + self.high[k] * share
            values[self.names[k]] = round(value) if self.whole[k] else value
        return values

    def index(self, cell: int, number: int) -> int:
        """Give the index of task `number` of a cell; raises ValueError if there is no such number."""
        if not 0 <= number < self.num_tasks:
            raise ValueError(f"a cell of this box has {self.num_tasks} tasks, and no number {number}")
        return number * self.num_cells + int(self._places[cell])

    def cell(self, index: int) -> int:
        """Find the cell of a task by its index, of any size."""
        return int(self._cells[index % self.num_cells])

    def point(self, index: int) -> NDArray[np.float64]:
        """Place a task in the unit box [d]: in its cell, where a fixed hash of the index says, so no lattice shows."""
        at = np.array(np.unravel_index(self.cell(index), self.levels))
        dims = np.arange(self.num_dims, dtype=np.uint64) + np.uint64(index * self.num_dims)
        inside = _hash(dims) >> np.uint64(11)
        point: NDArray[np.float64] = (at + inside * 2.0**-53) / np.array(self.levels)
        return point

    def nearest(self, cell: int) -> NDArray[np.int64]:
        """List all cells by the distance of their centres from that of a cell, which comes first."""
        centres = (np.indices(self.levels).reshape(self.num_dims, -1).T + 0.5) / np.array(self.levels)
        return np.argsort(np.square(centres - centres[cell]).sum(axis=1), kind="stable")

    def corners(self) -> list[int]:
        """List the cells at the corners: 2^d, every parameter at one end of its range."""
        ends = [(0, levels - 1) for levels in self.levels]
        return [int(np.ravel_multi_index(corner, self.levels)) for corner in itertools.product(*ends)]

    @cached_property
    def _cells(self) -> NDArray[np.int64]:
        return np.argsort(_hash(np.arange(self.num_cells, dtype=np.uint64)), kind="stable")

    @cached_property
    def _places(self) -> NDArray[np.int64]:
        return np.argsort(self._cells, kind="stable")


def _hash(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scatter whole numbers, each to another."""
    return scattered((numbers + np.uint64(1)) * GOLDEN)


def scattered(mixed: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread numbers over 64 bits (the end of splitmix64); unlike a generator's, this never changes."""
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
