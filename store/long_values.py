"""Long lists of plain data beside a JSON file: numbers as arrays, strings as one line of JSON, exactly as they were.

    state.json      the data, with null in the place of what is long
    long.json       what belongs there: [{"at": path in the data, "values": file, "keys": file}, ...]
    long-0.npy      int64 or float64 [n]
    long-1.json     n strings

Long are lists of integers (of 64 bits), of floats or of strings, one type a list, and dicts from strings to
one of these; everything else stays JSON, as does what is short. Equal data make equal files: dicts are sorted by key,
as JSON is here, and files of equal content are written once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

INDEX = "long.json"
LEAST = 100_000  # entries, above which a list or dict is written beside the JSON

Held = NDArray[np.int64] | NDArray[np.float64] | list[str]


@dataclass
class LongValues:
    """What was taken out of some data; a copy, so that the data may change before it is written."""

    index: list[dict[str, Any]] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)

    def take(self, data: Any, least: int = LEAST, at: tuple[str | int, ...] = ()) -> Any:
        """Give the data with None in the place of what has more than `least` entries."""
        if isinstance(data, dict):
            if not set(map(type, data)) <= {str}:  # JSON would change the keys, so paths would not find them
                return data
            if len(data) > least and self._enter_dict(data, at):
                return None
            return {key: self.take(one, least, (*at, key)) for key, one in data.items()}
        if isinstance(data, (list, tuple)):
            if len(data) > least and (held := _held(data)) is not None:
                self.index.append({"at": list(at), "values": self._enter(held)})
                return None
            return [self.take(one, least, (*at, place)) for place, one in enumerate(data)]
        return data

    def write(self, folder: Path) -> None:
        """Write what was taken; nothing where nothing was."""
        if not self.index:
            return
        for number, held in enumerate(self.held):
            if isinstance(held, list):
                (folder / _name(number, held)).write_text(json.dumps(held), "utf-8")
            else:
                np.save(folder / _name(number, held), held, allow_pickle=False)
        (folder / INDEX).write_text(json.dumps(self.index, sort_keys=True, indent=1), "utf-8")

    def _enter_dict(self, data: dict[str, Any], at: Sequence[str | int]) -> bool:
        keys = sorted(data)
        values = _held(list(map(data.__getitem__, keys)))
        if values is None:
            return False
        self.index.append({"at": list(at), "keys": self._enter(keys), "values": self._enter(values)})
        return True

    def _enter(self, held: Held) -> str:
        for number, other in enumerate(self.held):
            if _is_same(held, other):
                return _name(number, other)
        self.held.append(held)
        return _name(len(self.held) - 1, held)


def put_back(data: Any, folder: Path) -> Any:
    """Put into data read from a folder what was written beside it; where nothing was, the data are as they are."""
    if not (folder / INDEX).is_file():
        return data
    read: dict[str, list[Any]] = {}
    root: Any = [data]
    for entry in json.loads((folder / INDEX).read_bytes()):
        for name in _files_of(entry):
            if name not in read:
                read[name] = _read(folder / name)
        values = read[entry["values"]]
        way: list[Any] = [0, *entry["at"]]
        last, place = way.pop(), root
        for step in way:
            place = place[step]
        place[last] = dict(zip(read[entry["keys"]], values, strict=True)) if "keys" in entry else list(values)
    return root[0]


def _held(values: Sequence[Any]) -> Held | None:
    """Copy values of one type; None: of several, or of one that no array holds exactly."""
    types = set(map(type, values))
    if types == {float}:
        return np.array(values, np.float64)
    if types == {int}:
        try:
            return np.array(values, np.int64)
        except OverflowError:
            return None
    return list(values) if types == {str} else None


def _is_same(one: Held, other: Held) -> bool:
    if isinstance(one, list) or isinstance(other, list):
        return isinstance(one, list) and isinstance(other, list) and one == other
    return (
        one.dtype == other.dtype and len(one) == len(other) and bool((one.view(np.int64) == other.view(np.int64)).all())
    )


def _name(number: int, held: Held) -> str:
    return f"long-{number}.{'json' if isinstance(held, list) else 'npy'}"


def _files_of(entry: dict[str, Any]) -> Iterator[str]:
    yield from (entry[part] for part in ("keys", "values") if part in entry)


def _read(path: Path) -> list[Any]:
    if path.suffix == ".json":
        return list(json.loads(path.read_bytes()))
    return list(np.load(path, allow_pickle=False).tolist())
