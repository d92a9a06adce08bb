"""What a person wrote, read and bounded before anything is made of it: files in UTF-8, a small part of YAML.

A spec is maps, lists, text, numbers, true, false and null. Other tags, keys that stand twice, names inside of what they
name, and more than a machine should be asked to unfold are refused with their line. Dates are text, as in YAML 1.2.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from orchestrator.errors import SpecError
from orchestrator.spec.echo import DEEPEST, cut, shown, walk

MOST_BYTES = 1_000_000  # of a file
MOST_VALUES = 50_000  # of a file, keys too; an alias counts as what it stands for
LONGEST_KEY = 200  # characters: names become paths, links and names of metrics
LARGEST = 2**63 - 1  # a whole number: what a database and a generator of random numbers hold
OTHER_ENCODINGS = {  # by the bytes that a file begins with; the longer first
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
TAG = "tag:yaml.org,2002:"
KEYS = ("str", "int", "float", "merge")
VALUES = ("str", "int", "float", "bool", "null", "map", "seq")

Path_ = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """What a person wrote, not checked yet: a map, the line of every key, and what messages begin with."""

    raw: dict[str, Any]
    lines: Mapping[Path_, int]
    where: str
    overrides: dict[Path_, str] = field(default_factory=dict)  # what gave a field in the place of the file

    def part(self, key: str) -> Document:
        """A section that is a document of its own; messages still name this file and its lines."""
        lines = {path[1:]: line for path, line in self.lines.items() if path[0] == key and len(path) > 1}
        return Document(dict(self.raw[key]), lines, self.where)

    def at(self, loc: Path_) -> str:
        """Name a place: the override that gave it, else the file, the line of the key or of the nearest around it.

        What is wrong with a section may come from an override inside of it, so those are named too.
        """
        key = ".".join(cut(str(part)) for part in loc)
        words = tuple(map(str, loc))
        given = [text for path, text in self.overrides.items() if words[: len(path)] == path]
        line = next((self.lines[loc[:end]] for end in range(len(loc), 0, -1) if loc[:end] in self.lines), None)
        inside = [text for path, text in self.overrides.items() if loc and path[: len(words)] == words]
        place = given[-1] if given else ", with ".join([f"{self.where}{f', line {line}' if line else ''}", *inside])
        return f"{place}: {f'{key}: ' if key else ''}"


def read(path: Path, expected: str, kind: str = "spec") -> Document:
    """Read a YAML file that must hold a map. Raises SpecError."""
    text = _text(path, kind)
    try:
        node, raw = _parsed(text)
    except yaml.YAMLError as error:
        line, why = _in_words(error, text)
        raise SpecError(f"{path}, line {line}: {why}") from error
    if not isinstance(raw, dict):
        raise SpecError(f"{path} must hold {expected}")
    return Document(raw, dict(_lines(node)), str(path))


def value_of(text: str) -> Any:
    """Read the value of an override. Raises SpecError."""
    try:
        return _parsed(text)[1]
    except yaml.YAMLError as error:
        raise SpecError(f"the value {_in_words(error, text)[1]}") from error


def unusable(raw: Any) -> Iterator[tuple[Path_, str]]:
    """Find what no spec can hold: numbers that are none, or that nothing can count with, and text that has no UTF-8."""
    for path, value in walk(raw):
        if path and (wrong := _wrong(path[-1], is_key=True)) is not None:
            yield path[:-1], f"the key {shown(path[-1])} {wrong}"
        if len(path) > DEEPEST:
            yield path[:3], f"is nested more than {DEEPEST} deep"
        elif (wrong := _wrong(value)) is not None:
            yield path, f"{shown(value)} {wrong}"


def _wrong(value: Any, is_key: bool = False) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return "is no finite number"
    if isinstance(value, int) and abs(value) > LARGEST:
        return "is beyond 2**63, the largest whole number here"
    if is_key and isinstance(value, str) and (len(value) > LONGEST_KEY or not value.isprintable()):
        return f"is no key: at most {LONGEST_KEY} characters that can be printed"
    if isinstance(value, str) and ("\0" in value or any("\ud800" <= c <= "\udfff" for c in value)):
        return "holds a character that no file or database takes (U+0000, or half of a pair)"
    return None


def _text(path: Path, kind: str) -> str:
    """Read a file as UTF-8, whatever the locale says; a byte-order mark before it is allowed."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with U+0000
        why = getattr(error, "strerror", None) or error
        raise SpecError(f"cannot read the {kind} {cut(str(path))}: {why}{_what_it_is(path)}") from error
    if len(content) > MOST_BYTES:
        raise SpecError(f"{path} has more than {MOST_BYTES:,} bytes, so it is no {kind}")
    if other := next((name for mark, name in OTHER_ENCODINGS.items() if content.startswith(mark)), None):
        raise SpecError(f"{path} is in {other}; save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SpecError(
            f"{path}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from error


def _what_it_is(path: Path) -> str:
    """Say what a folder is that stands where a file is wanted, if it is a run's."""
    own = path / "spec.yaml"
    try:
        is_run = own.is_file()
    except (OSError, ValueError):
        return ""
    if not is_run:
        return ""
    return f". It is the folder of a run: `evergreen resume {path.absolute().name}` goes on with it, {own} is its spec"


class _Reader(yaml.SafeLoader):
    """Composes within bounds, and only what a spec is made of."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._num_values = 0
        self._measures: dict[int, tuple[int, int]] = {}  # of every whole node: how many values, how deep

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node; an alias counts as much as what it stands for."""
        mark: yaml.Mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        is_alias = self.check_event(yaml.AliasEvent)
        self._depth += 1
        if self._depth > DEEPEST:
            raise _Refused(f"is nested more than {DEEPEST} deep", mark)
        num_before = self._num_values
        node: yaml.Node = super().compose_node(parent, index)  # type: ignore[assignment]
        if is_alias and id(node) not in self._measures:
            raise _Refused("has an alias inside of what it names", mark)
        num, height = self._measures[id(node)] if is_alias else (1, _height(node, self._measures))
        self._num_values += num
        if self._num_values > MOST_VALUES:
            raise _Refused(f"has more than {MOST_VALUES:,} values, with what aliases stand for", mark)
        if self._depth + height > DEEPEST:
            raise _Refused(f"is nested more than {DEEPEST} deep", mark)
        if not is_alias:
            self._measures[id(node)] = (self._num_values - num_before, height)
            _refuse_tag(node, VALUES if parent is None or index is not None else (*VALUES, *KEYS))
        self._depth -= 1
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        """Compose a map; a key that stands there twice would silently count once."""
        node = super().compose_mapping_node(anchor)
        found: dict[Any, int] = {}
        for key, _ in node.value:
            _refuse_tag(key, KEYS)
            if key.value in found:
                word = f"has the key `{cut(key.value)}` twice in one map, first in line {found[key.value]}"
                raise _Refused(word, key.start_mark)
            found[key.value] = key.start_mark.line + 1
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """Make a value; what a tag promised and the text does not keep is named with its line."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, OverflowError) as error:
            raise _Refused(
                f"has {shown(node.value)}, which cannot be read as {_word(node)}", node.start_mark
            ) from error


_Reader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != f"{TAG}timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _Refused(yaml.MarkedYAMLError):
    """Valid YAML that is no spec."""

    def __init__(self, problem: str, mark: yaml.Mark) -> None:
        super().__init__(problem=problem, problem_mark=mark)


def _parsed(text: str) -> tuple[yaml.Node | None, Any]:
    reader = _Reader(text)
    try:
        node = reader.get_single_node()
        return node, None if node is None else reader.construct_document(node)
    except (ValueError, OverflowError) as error:  # an escape beyond the last character, "\UFFFFFFFF"
        raise _Refused("has an escape that is no character", reader.get_mark()) from error
    finally:
        reader.dispose()


def _height(node: yaml.Node, measures: Mapping[int, tuple[int, int]]) -> int:
    """How many levels are below a node."""
    if isinstance(node, yaml.ScalarNode):
        return 0
    below = [part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,))]
    return 1 + max((measures[id(one)][1] for one in below), default=-1)


def _refuse_tag(node: yaml.Node, allowed: Iterable[str]) -> None:
    if _word(node) in allowed:
        return
    why = f"has {cut(node.tag.replace(TAG, '!!'))}, which has no place here"
    if isinstance(node, yaml.ScalarNode) and _word(node) in ("bool", "null"):
        why = f"has the key `{cut(node.value)}`, which is read as {_word(node)}: put it in quotes"
    raise _Refused(why, node.start_mark)


def _word(node: yaml.Node) -> str:
    return str(node.tag.removeprefix(TAG))


def _in_words(error: yaml.YAMLError, text: str) -> tuple[int, str]:
    """Say in which line text is no YAML, or none of ours, and why: the end of a sentence about it."""
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return line, f"is not valid YAML: the character U+{error.character:04X} is not allowed"
    assert isinstance(error, yaml.MarkedYAMLError)
    mark = error.problem_mark or error.context_mark
    why = ", ".join(part for part in (error.context, error.problem) if part)
    if not isinstance(error, _Refused):
        why = f"is not valid YAML: {cut(why)}"
    return mark.line + 1 if mark else 1, why


def _lines(node: yaml.Node | None, path: Path_ = ()) -> Iterator[tuple[Path_, int]]:
    """Yield the line (from 1) at which every key stands."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, key.value)
            yield here, key.start_mark.line + 1
            yield from _lines(value, here)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _lines(value, (*path, index))
