"""Long plain data beside a JSON file: numbers as arrays, strings as one line of JSON, exactly as they were.

    state.json         the data, with null in the place of what is long
    long.json          what belongs there: [{"at": path in the data, "values": span, ...}, ...]
    long-float.npy     all floats, one list after the other: float64 [n]
    long-int.npy       all integers: int64 [n]
    long-str.json      all strings; equal lists of them once

A span is a kind (float, int, str), a first place and the one after the last. Long are lists of integers (of 64 bits),
of floats or of strings, one type a list, and dicts from strings to one of these, which have a span of `keys`; and
arrays, however few their numbers, which have a `shape` and come back as arrays. Everything else stays JSON, as does
what is short. A hundred bandits of ten thousand arms make as many entries as one of a million, so it is the sum that
decides whether anything is written so. Equal data make equal files: dicts are sorted by key, as JSON is here.

A list costs a look at each of its entries, an array a copy, and one that owns its numbers and is read-only nothing: who
has millions of numbers gives arrays.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

INDEX = "long.json"
LEAST = 100_000  # entries of all that is long, above which it is written beside the JSON;
LONG = 100  # and of one list or dict, above which it is long

Span = tuple[str, int, int]
Held = NDArray[np.int64] | NDArray[np.float64] | list[str]
FILES = {"float": "long-float.npy", "int": "long-int.npy", "str": "long-str.json"}
KINDS = {np.dtype(np.float64): "float", np.dtype(np.int64): "int"}


@dataclass
class LongValues:
    """What was taken out of some data; a copy, so that the data may change before it is written."""

    index: list[dict[str, Any]] = field(default_factory=list)
    arrays: dict[str, list[NDArray[Any]]] = field(default_factory=lambda: {"float": [], "int": []})
    strings: list[str] = field(default_factory=list)
    _spans: dict[tuple[str, ...], Span] = field(default_factory=dict)  # of lists of strings, which keys share
    _ends: dict[str, int] = field(default_factory=lambda: {"float": 0, "int": 0})

    @property
    def num_entries(self) -> int:
        """How much it is."""
        return sum(self._ends.values()) + len(self.strings)

    def take(self, data: Any, long: int = LONG, at: tuple[str | int, ...] = ()) -> Any:
        """Give the data with None in the place of what has more than `long` entries, and of arrays."""
        if isinstance(data, np.ndarray):
            if data.dtype not in KINDS:
                raise TypeError(f"an array of {data.dtype} at {at}: only float64 and int64 come back as they were")
            may_change = data.flags.writeable or data.base is not None
            values = data.flatten() if may_change else data.ravel()
            self.index.append({"at": list(at), "shape": list(data.shape), "values": self._enter(values)})
            return None
        if isinstance(data, dict):
            if not set(map(type, data)) <= {str}:  # JSON would change the keys, so paths would not find them
                return data
            if len(data) > long and self._enter_dict(data, at):
                return None
            return {key: self.take(one, long, (*at, key)) for key, one in data.items()}
        if isinstance(data, (list, tuple)):
            if len(data) > long and (held := _held(data)) is not None:
                self.index.append({"at": list(at), "values": self._enter(held)})
                return None
            return [self.take(one, long, (*at, place)) for place, one in enumerate(data)]
        return data

    def write(self, folder: Path) -> None:
        """Write what was taken; nothing where nothing was."""
        if not self.index:
            return
        for kind, arrays in self.arrays.items():
            if not arrays:
                continue
            of = {"shape": (self._ends[kind],), "fortran_order": False}
            with (folder / FILES[kind]).open("wb") as file:  # as `np.save` writes them put together
                npy.write_array_header_1_0(file, {"descr": npy.dtype_to_descr(arrays[0].dtype), **of})
                for array in arrays:
                    array.tofile(file)
        if self.strings:
            (folder / FILES["str"]).write_text(json.dumps(self.strings), "utf-8")
        (folder / INDEX).write_text(json.dumps(self.index, sort_keys=True, indent=1), "utf-8")

    def _enter_dict(self, data: dict[str, Any], at: Sequence[str | int]) -> bool:
        found = list(data)
        keys = sorted(found)
        values = _held(list(data.values()) if keys == found else list(map(data.__getitem__, keys)))
        if values is None:
            return False
        self.index.append({"at": list(at), "keys": self._enter(keys), "values": self._enter(values)})
        return True

    def _enter(self, held: Held) -> Span:
        if isinstance(held, list):
            strings = tuple(held)
            if strings not in self._spans:
                self._spans[strings] = ("str", len(self.strings), len(self.strings) + len(strings))
                self.strings += strings
            return self._spans[strings]
        kind = KINDS[held.dtype]
        begin = self._ends[kind]
        self.arrays[kind].append(held)
        self._ends[kind] += len(held)
        return kind, begin, self._ends[kind]


def listed(data: Any) -> Any:
    """Give an array as lists, for JSON of data that has little that is long."""
    if isinstance(data, np.ndarray):
        return data.tolist()
    raise TypeError(f"{type(data).__name__} is no plain data")


def put_back(data: Any, folder: Path) -> Any:
    """Put into data read from a folder what was written beside it; where nothing was, the data are as they are.

    Arrays are parts of one that was read: who keeps a small one copies it.
    """
    if not (folder / INDEX).is_file():
        return data
    read = {kind: _read(folder / name) for kind, name in FILES.items() if (folder / name).is_file()}

    def values_of(span: Span) -> Any:
        kind, begin, end = span
        return read[kind][begin:end]

    def plain(span: Span) -> list[Any]:
        values = values_of(span)
        found: list[Any] = values.tolist() if isinstance(values, np.ndarray) else values
        return found

    root: Any = [data]
    for entry in json.loads((folder / INDEX).read_bytes()):
        way: list[Any] = [0, *entry["at"]]
        last, place = way.pop(), root
        for step in way:
            place = place[step]
        if "shape" in entry:
            place[last] = values_of(entry["values"]).reshape(entry["shape"])
        elif "keys" in entry:
            place[last] = dict(zip(plain(entry["keys"]), plain(entry["values"]), strict=True))
        else:
            place[last] = plain(entry["values"])
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


def _read(path: Path) -> Any:
    return json.loads(path.read_bytes()) if path.suffix == ".json" else np.load(path, allow_pickle=False)
