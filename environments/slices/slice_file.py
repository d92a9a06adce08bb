"""Which task is in which slice, as a file: JSON lines, for each environment a header and then its tasks.

    {"format": 1, "environment": "sums", "version": "1", "method": "pass_rate", "policy": "...", "slices": ["...", ...],
     "nodes": {"...": [0, 1]}, "digest": "..."}
    {"key": "<content key>", "slice": "...", "category": "all", "index": 3, "pool": "train", "correct": 2, "samples": 4}

`nodes` says the way from a tree's root to a slice; `correct` and `samples` are there where a policy played the tasks.
Tasks of a run that its data has no more stand at the end, with `"missing": true` and the place that they had last.
`digest` is that of the assignment, by which a run sees that its own copy is whole; other files may be edited.
Nothing of it depends on the time or the place of writing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast, get_args

from environments.contracts import EnvironmentFault, Pool

FORMAT = 1
MISSING = "missing"


@dataclass(frozen=True)
class SliceRow:
    """A task and its slice."""

    key: str  # the content key
    slice: str
    category: str  # of the environment that is split
    index: int  # there
    pool: Pool | None  # None: of an environment that trains on all its tasks
    correct: int | None = None  # of so many samples; None: not played
    samples: int | None = None


@dataclass(frozen=True)
class Slices:
    """How an environment is split."""

    environment: str
    version: str  # of the environment
    method: str
    names: Sequence[str]  # of the slices, in their order
    rows: Sequence[SliceRow]
    policy: str | None = None  # who played; None: nobody
    nodes: Mapping[str, Sequence[int]] = field(default_factory=dict)  # by slice: which branch at each level of a tree
    missing: Sequence[SliceRow] = ()  # tasks that a run had, and its data has no more

    @property
    def named(self) -> Sequence[SliceRow]:
        """The rows of all tasks, whether the data has them or not."""
        return (*self.rows, *self.missing)

    @property
    def digest(self) -> str:
        """Tell two assignments apart, of the tasks that the data has."""
        return self._digest(())

    @property
    def digest_of_all(self) -> str:
        """Tell two files apart: as `digest`, with the tasks that are missing."""
        return self._digest(self.missing)

    def _digest(self, missing: Sequence[SliceRow]) -> str:
        found = hashlib.sha256(json.dumps([list(self.names), {k: list(v) for k, v in self.nodes.items()}]).encode())
        for rows, mark in ((self.rows, ""), (missing, f"\0{MISSING}")):
            for row in rows:
                found.update(f"{row.key}\0{row.slice}{mark}\n".encode(errors="surrogatepass"))
        return found.hexdigest()[:12]

    def text(self) -> str:
        """Write it as JSON lines."""
        header: dict[str, Any] = {
            "format": FORMAT,
            "environment": self.environment,
            "version": self.version,
            "method": self.method,
            "policy": self.policy,
            "slices": list(self.names),
            "nodes": {name: list(way) for name, way in self.nodes.items()},
            "digest": self.digest_of_all,
        }
        missing = ({**_plain(row), MISSING: True} for row in self.missing)
        return "".join(json.dumps(line) + "\n" for line in (header, *map(_plain, self.rows), *missing))


def _plain(row: SliceRow) -> dict[str, Any]:
    played = ("correct", "samples")
    return {key: value for key, value in vars(row).items() if value is not None or key not in played}


def text_of(slices: Iterable[Slices]) -> str:
    """Write those of several environments into one text."""
    return "".join(one.text() for one in slices)


def read_kept_slices(path: Path) -> dict[str, Slices]:
    """Read the copy that a run keeps, by environment. Raises EnvironmentFault where it is not as it was written."""
    try:
        return read_slices(path, is_unedited=True)
    except EnvironmentFault as fault:
        words = "it is the run's own copy of its slices: delete it, and `resume` makes them again from its data or file"
        raise EnvironmentFault(f"{fault}; {words}") from fault


def read_slices(path: Path, is_unedited: bool = False) -> dict[str, Slices]:
    """Read a file of slices, by environment. Raises EnvironmentFault, with the line, if it is none.

    `is_unedited`: also where a digest is not that of its assignment.
    """
    try:
        lines = path.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise EnvironmentFault(
            f"{path}: slices cannot be read from it ({error}); `evergreen profile` writes it"
        ) from error
    headers: list[Slices] = []
    digests: list[str | None] = []
    rows: list[list[SliceRow]] = []
    missing: list[list[SliceRow]] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            plain = json.loads(line)
            if "format" in plain:
                headers.append(_header(plain))
                digests.append(plain.get("digest"))
                rows.append([])
                missing.append([])
            elif not headers:
                raise ValueError("the first line must be a header")
            else:
                own = missing if plain.get(MISSING) else rows
                own[-1].append(_row(plain, headers[-1].names))
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as wrong:
            said = f"there is no {wrong}" if isinstance(wrong, KeyError) else wrong
            raise EnvironmentFault(
                f"{path}:{number}: not as `evergreen profile` writes slices ({said}); write the file again"
            ) from wrong
    if not headers:
        raise EnvironmentFault(f"{path}: it is empty; `evergreen profile` writes slices")
    found = [
        replace(header, rows=tuple(own), missing=tuple(gone))
        for header, own, gone in zip(headers, rows, missing, strict=True)
    ]
    for one, digest in zip(found, digests, strict=True) if is_unedited else ():
        if digest is not None and digest != one.digest_of_all:
            raise EnvironmentFault(f"{path}: the slices of {one.environment} are not those that were written")
    return {one.environment: one for one in found}


def _header(plain: Mapping[str, Any]) -> Slices:
    """Read what a header says, without rows."""
    if plain["format"] != FORMAT:
        raise ValueError(f"it is of format {plain['format']}, and this Evergreen reads {FORMAT}")
    names, nodes = plain["slices"], plain.get("nodes", {})
    if not isinstance(names, list) or not isinstance(nodes, dict):
        raise ValueError("slices are a list of names, and nodes a map")
    return Slices(
        str(plain["environment"]),
        str(plain["version"]),
        str(plain["method"]),
        tuple(map(str, names)),
        (),
        plain.get("policy"),
        {str(name): tuple(map(int, way)) for name, way in nodes.items()},
    )


def _row(plain: Mapping[str, Any], names: Sequence[str]) -> SliceRow:
    if plain["slice"] not in names:
        raise ValueError(f"the header has no slice {plain['slice']!r}")
    if plain["pool"] is not None and plain["pool"] not in get_args(Pool):
        raise ValueError(f"there is no pool {plain['pool']!r}")
    index, correct, samples = (None if plain.get(k) is None else int(plain[k]) for k in ("index", "correct", "samples"))
    if index is None or index < 0:
        raise ValueError(f"there is no index {index}")
    counts = (correct, samples)
    if counts != (None, None) and (correct is None or samples is None or not 0 <= correct <= samples):
        raise ValueError(f"there are no {correct} correct of {samples} samples")
    return SliceRow(
        str(plain["key"]),
        str(plain["slice"]),
        str(plain["category"]),
        index,
        cast("Pool | None", plain["pool"]),
        correct,
        samples,
    )
