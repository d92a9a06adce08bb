"""The index of a table: which rows belong to which category and pool, found in one pass over the files.

Of every usable row it keeps 35 bytes: where it is, its pool, its content key, its length, the roles of its messages.
Training rows come first, in the order of the files, then held-out rows; so a row has the same index whenever the same
files are opened. While the files are gone through a hash of every truth is kept too, which tells prompts with different
truths.
"""

from __future__ import annotations

import difflib
import json
import re
import struct
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from environments.contracts import EnvironmentFault, Pool, canonical, key_of, most_bytes
from environments.display import Throttle, brief
from environments.pools import half_of, pool_of
from environments.tables.row_file import InvalidRow, InvalidRows, Row, RowFile
from environments.tables.row_parser import FieldMissing, RowParser
from environments.tables.text_rows import NO_JSON, NO_UTF8

POOLS: tuple[Pool, ...] = get_args(Pool)
CODES = {pool: code for code, pool in enumerate(POOLS)}
SAY_EVERY = 4096  # rows between two looks at the clock
MOST_CATEGORIES = 1000
# What is kept of a row while they are found: its category, what goes into `Places`, a hash of its truth.
NAMES = ("file", "number", "pool", "key", "length", "roles")
TYPES = ("i2", "i8", "i1", "V16", "i4", "i4")
FIELDS = np.dtype([("category", "i2"), *zip(NAMES, TYPES, strict=True), ("truth", "i8")])
PACKED = struct.Struct("=hhqb16siiq")
LONGEST_TRUTH = 40  # characters of one that is shown
NUMBER = re.compile(r"-?\d+(\.\d+)?", re.ASCII)
WHERE = "`prompt` or `template`, `category` and `truth` say where things are in a row"
SAID = 10  # reasons named where they end everything


@dataclass(frozen=True)
class Places:
    """The rows of one category, by index."""

    files: NDArray[np.int16]  # number of the file
    numbers: NDArray[np.int64]  # of the row in it
    pools: NDArray[np.int8]  # codes, places in `POOLS`
    keys: NDArray[np.void]  # content keys, 16 bytes each
    lengths: NDArray[np.int32]  # `most_bytes` of the conversations
    roles: NDArray[np.int32]  # of their messages: places in `Index.roles`

    def __len__(self) -> int:
        return len(self.numbers)

    def key(self, index: int) -> str:
        """Give the content key of a row."""
        return str(self.keys[index].tobytes().hex())

    def of(self, pool: Pool) -> NDArray[np.int64]:
        """Give the indices of a pool, ascending."""
        return np.flatnonzero(self.pools == CODES[pool])

    def num_different(self, indices: NDArray[np.int64] | slice = slice(None)) -> int:
        """Count the content keys of these rows, by half of each: two of a million fall together once in 10^7 times."""
        halves = self.keys.view(np.uint64).reshape(len(self), 2)[indices, 0]
        return len(np.unique(halves))


@dataclass(frozen=True)
class Index:
    """What can be used of a table, and what cannot."""

    categories: Mapping[str, Places]  # in their order
    left_out: InvalidRows
    remarks: Sequence[str]
    warnings: tuple[str, ...]
    roles: Sequence[tuple[str, ...]]  # of messages, each sequence once


def build_index(
    files: Sequence[RowFile],
    num_training: int,
    reader: RowParser,
    wanted: Sequence[str] | None,
    say: Throttle,
) -> Index:
    """Go through all rows once; if no file is held out, pools follow from content keys.

    The first `num_training` files are to train on. `wanted` are the categories to use, in their order; None: all.
    Raises EnvironmentFault if a part has no usable row, a wanted category is not there, or there are too many.
    """
    builder = _IndexBuilder(reader, wanted, has_holdout=num_training < len(files))
    for number, file in enumerate(files[num_training:], num_training):
        builder.go_through(number, file, True, say)  # first: nothing in them is trained on
    for number, file in enumerate(files[:num_training]):
        builder.go_through(number, file, False, say)
    return builder.finish()


class _IndexBuilder:
    def __init__(self, reader: RowParser, wanted: Sequence[str] | None, has_holdout: bool) -> None:
        self._reader, self._wanted, self._has_holdout = reader, wanted, has_holdout
        self._codes: dict[str, int] = {name: code for code, name in enumerate(wanted or ())}
        self._training, self._held_out = bytearray(), bytearray()  # rows, `PACKED`
        self._met = bytearray()  # rows to train on whose conversations are held out, the same way
        self._keys_held_out: set[str] = set()
        self._left_out = InvalidRows()
        self._unwanted: set[str] = set()  # a few of their names
        self._num_rows = {False: 0, True: 0}  # by whether they are held out
        self._names: dict[bool, list[str]] = {False: [], True: []}  # of the files, the same way
        self._files: dict[int, RowFile] = {}
        self._roles: dict[tuple[str, ...], int] = {}
        self._num_unwanted = self._num_met = 0

    def go_through(self, number: int, file: RowFile, is_held_out: bool, say: Throttle) -> None:
        self._names[is_held_out].append(file.name)
        self._files[number] = file
        place = -1
        for place, (line, row) in enumerate(file.rows()):
            if place % SAY_EVERY == 0 and say.is_time():
                num = sum(self._num_rows.values()) + place
                say(f"{num:,} rows gone through, now {file.name}")
            try:
                if isinstance(row, InvalidRow):
                    raise row
                self._take(number, place, row, is_held_out)
            except FieldMissing as missing:  # not all columns may have been read
                self._left_out.add(file.name, line, missing.seen_in(file.whole(missing.row)), is_held_out)
            except InvalidRow as invalid:
                self._left_out.add(file.name, line, invalid, is_held_out)
        self._num_rows[is_held_out] += place + 1

    def finish(self) -> Index:
        """Sort what was found into categories."""
        rows = np.frombuffer(self._training + self._held_out, FIELDS)
        if not len(rows):
            if self._num_unwanted or self._num_met:
                raise EnvironmentFault(f"no row is left to use: {'; '.join(self._remarks({}))}")
            raise EnvironmentFault(self._lost("", None))
        # A part that was given and is invalid as a whole is refused: something else would be trained on, or measured.
        # Files to train on may end up empty on purpose, where the same conversations are held out.
        num_invalid = sum(flaw.num_rows for flaw in self._left_out.flaws(is_held_out=False))
        if num_invalid == self._num_rows[False]:
            raise EnvironmentFault(self._lost("to train on ", False))
        if self._has_holdout and not self._held_out:
            raise EnvironmentFault(self._lost("held out ", True))
        names = sorted(self._codes)  # or by number if all are numbers, or as the spec lists them
        if all(map(NUMBER.fullmatch, names)):
            names.sort(key=lambda name: (float(name), name))
        order = np.argsort(rows["category"], kind="stable")
        edges = np.searchsorted(rows["category"][order], np.arange(len(self._codes) + 1))
        places = {}
        for name in self._wanted or names:
            code = self._codes[name]
            own = rows[order[edges[code] : edges[code + 1]]]
            places[name] = Places(*(own[field].copy() for field in NAMES))
            if not len(own):  # one that is wanted
                near = difflib.get_close_matches(name, self._unwanted, n=1)
                others = ", ".join(sorted(self._unwanted)) or "no others"
                hint = f"did you mean {near[0]!r}?" if near else f"there are: {others}"
                found = f"no usable row is of the category {name!r} that `categories` names"
                raise EnvironmentFault(f"{found}; {hint}")
        of_files = (text for number in sorted(self._files) for text in self._files[number].warnings)
        warnings = (*of_files, *_lookalikes(list(places)), *self._contradictions())
        return Index(places, self._left_out, self._remarks(places), warnings, list(self._roles))

    def _take(self, file: int, place: int, row: Row, is_held_out: bool) -> None:
        category = self._reader.category_of(row)
        if self._wanted is not None and category not in self._codes:
            self._num_unwanted += 1
            if len(self._unwanted) < SAID:
                self._unwanted.add(category)
            return
        messages, truth = self._reader.check_row(row)
        conversation = canonical(messages)
        key, length, mark = key_of(conversation), most_bytes(conversation), hash(_as_text(truth))
        if is_held_out:
            self._keys_held_out.add(key)
        elif key in self._keys_held_out:
            self._num_met += 1
            self._met += PACKED.pack(0, file, place, 0, bytes.fromhex(key), length, 0, mark)
            return
        pool: Pool = half_of(key) if is_held_out else "train" if self._has_holdout else pool_of(key)
        code = self._codes.setdefault(category, len(self._codes))
        if code >= MOST_CATEGORIES and self._wanted is None:
            names = ", ".join(list(self._codes)[:3])
            raise EnvironmentFault(
                f"its rows have more than {MOST_CATEGORIES:,} categories ({names}, ...): `category` seems to name"
                " what tells rows apart; name a column with few values, or make few of many by an expression"
            )
        part = self._held_out if is_held_out else self._training
        roles = self._roles.setdefault(tuple(message["role"] for message in messages), len(self._roles))
        part += PACKED.pack(code, file, place, CODES[pool], bytes.fromhex(key), length, roles, mark)

    def _contradictions(self) -> tuple[str, ...]:
        """Say how many prompts come with different truths, on either side or both, and where the first of them is."""
        rows = np.frombuffer(self._training + self._held_out + self._met, FIELDS)
        keys = rows["key"].copy().view("u8").reshape(-1, 2)
        order = np.lexsort((keys[:, 1], keys[:, 0]))  # rows of a key in the order in which they were found
        keys, truths = keys[order], rows["truth"][order]
        is_same = (keys[1:] == keys[:-1]).all(axis=1)
        differing = np.flatnonzero(is_same & (truths[1:] != truths[:-1]))
        if not len(differing):
            return ()
        prompts, firsts = np.unique(np.cumsum(~is_same)[differing], return_index=True)  # the first difference of each
        starts = order[np.flatnonzero(np.r_[True, ~is_same])[prompts]]
        num, first = len(prompts), starts.argmin()
        places = starts[first], order[differing[firsts[first]] + 1]
        sides = " and ".join(self._truth_at(rows[place]) for place in places)
        told = "one prompt has" if num == 1 else f"{num:,} prompts have"
        return (
            f"{told} truths that are written differently in several rows: unless they mean the same, no answer is right"
            f" in all of them; the first: {sides}",
        )

    def _truth_at(self, found: np.void) -> str:
        file, number = self._files[int(found["file"])], int(found["number"])
        truth = brief(_as_text(self._reader.truth_of(file.row(number))), LONGEST_TRUTH)
        return f"{file.place(number)} ({truth})"

    def _lost(self, role: str, is_held_out: bool | None) -> str:  # None: of all
        num_rows = sum(num for part, num in self._num_rows.items() if is_held_out in (None, part))
        if not num_rows:
            names = [name for part, names in self._names.items() if is_held_out in (None, part) for name in names]
            more = f" and {len(names) - SAID:,} more" if len(names) > SAID else ""
            return f"its files {role}hold no rows: {', '.join(names[:SAID])}{more}"
        flaws = self._left_out.flaws(is_held_out)
        others = num_rows - sum(flaw.num_rows for flaw in flaws)
        unwanted = f"\n  of a category that `categories` does not name: {_rows(others)}" if others else ""
        listed = "".join(f"\n  {flaw}" for flaw in flaws[::-1][:SAID])  # the commonest reasons, a line each
        where = "" if flaws and all(flaw.kind in (NO_JSON, NO_UTF8) for flaw in flaws) else f"; {WHERE}"
        none = "its one row" if num_rows == 1 else f"none of its {_rows(num_rows)}"
        return f"{none} {role}{'cannot' if num_rows == 1 else 'can'} be used{where}:{unwanted}{listed}"

    def _remarks(self, places: Mapping[str, Places]) -> list[str]:
        counts = {
            "to train on left out: the same conversations are held out": self._num_met,
            "left out: of categories that `categories` does not name": self._num_unwanted,
        }
        remarks = [f"{_rows(num)} {why}" for why, num in counts.items() if num]
        untrained = {name: own for name, own in places.items() if not (self._has_holdout or len(own.of("train")))}
        if len(untrained) < len(places):  # some are trained on; what has no row to evaluate on either is not used
            untrained = {name: own for name, own in untrained.items() if len(own.of("anchor"))}
        if untrained:
            more = f" and {len(untrained) - SAID:,} more" if len(untrained) > SAID else ""
            which, are, whose = ("category", "is", "its") if len(untrained) == 1 else ("categories", "are", "their")
            why = f"none of {whose} {_rows(sum(map(len, untrained.values())))} falls to the training pool"
            remarks.append(f"{which} {', '.join([*untrained][:SAID])}{more} {are} only evaluated: {why}")
        num, different = sum(len(own) for own in places.values()), sum(own.num_different() for own in places.values())
        if different < num:
            held_out = [own.of("anchor") for own in places.values()]
            asked = sum(own.num_different(of) for own, of in zip(places.values(), held_out, strict=True))
            remarks.append(
                f"{_rows(num)} ask {different:,} different things, also those that turn out too long for the policy: "
                f"an evaluation asks each once, {asked:,} of its "
                f"{_rows(sum(map(len, held_out)))} to evaluate on; training as often as there are rows"
            )
        return remarks


def _lookalikes(names: Sequence[str]) -> tuple[str, ...]:
    """Warn of categories whose names differ in case, blanks, the form of characters or of a number alone."""
    alike: dict[object, list[str]] = {}
    for name in names:
        text = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        alike.setdefault(float(text) if NUMBER.fullmatch(text) else text, []).append(name)
    told = [
        " and ".join(repr(one) if unicodedata.is_normalized("NFC", one) else ascii(one) for one in those)
        for those in alike.values()
        if len(those) > 1
    ]
    if not told:
        return ()
    more = f" and {len(told) - SAID:,} more" if len(told) > SAID else ""
    return (
        f"categories that look the same are told apart: {'; '.join(told[:SAID])}{more}; if they are one, write them "
        "alike, in the file or by an expression (`category: COLUMN.strip().lower()`)",
    )


def _as_text(truth: Any) -> str:
    """Write a truth so that equal ones are equal texts, also where a table made 7.0 of 7."""
    if isinstance(truth, str):
        return truth.strip()
    if isinstance(truth, float) and truth.is_integer():
        return str(int(truth))
    return json.dumps(truth, sort_keys=True, ensure_ascii=False)


def _rows(n: int) -> str:
    return "one row" if n == 1 else f"{n:,} rows"
