"""The shipped examples: what each is in a sentence, the files it needs, and a copy of them for a user to change.

In a clone they are the folder `examples`, in an installed package `orchestrator/examples`: the same files. An example
is a spec or a study there, or a folder with a `spec.yaml`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

import yaml

from orchestrator.errors import UserError
from store.errors import did_you_mean
from store.files import write_text

STARTER = "starter"  # what a user begins with who names none
MODELINE = "# yaml-language-server:"  # names a schema by its place in a clone
IN_CLONE = "examples/"  # how commands in comments name files
LINE = 79  # characters
PLACES = (Path(__file__).parent, Path(__file__).parents[1])  # of the folder: in a package, in a clone


@dataclass(frozen=True)
class Example:
    """An example, as it is shipped."""

    name: str
    spec: Path
    is_study: bool

    @property
    def root(self) -> Path:
        """The folder that its files are relative to."""
        return self.spec.parent

    @property
    def summary(self) -> str:
        """The first sentence of the comment that it begins with."""
        lines = self.spec.read_text("utf-8").splitlines()
        comment = " ".join(line.removeprefix("#").strip() for line in _leading(lines))
        return re.split(r"(?<=[.!?]) ", comment, maxsplit=1)[0]

    @property
    def run_name(self) -> str:
        """What it names its run, or its runs."""
        return str(_data(self.spec).get("name", self.name))

    def files(self) -> list[Path]:
        """List what it needs, relative to its root: a folder of its own as a whole, else what its spec names."""
        if self.root != shipped():
            return _below(self.root, self.root)
        return list(dict.fromkeys(_needed(self.spec, self.root)))


def shipped() -> Path:
    """Find the folder of the examples."""
    found = [place / "examples" for place in PLACES if (place / "examples" / STARTER).is_dir()]
    if not found:
        raise UserError("this installation is without the examples: install evergreen-rl again, or work in a clone")
    return found[0]


def examples() -> dict[str, Example]:
    """List them by name: the one to begin with, specs, then studies."""
    folder = shipped()
    specs = [Example(path.parent.name, path, False) for path in sorted(folder.glob("*/spec.yaml"))]
    files = sorted(folder.glob("*.yaml"))
    specs += [Example(path.stem, path, False) for path in files if not path.stem.startswith("study_")]
    specs += [Example(path.stem, path, True) for path in files if path.stem.startswith("study_")]
    return {example.name: example for example in specs}


def find_example(name: str) -> Example:
    """Find one by its name; UserError lists them."""
    known = examples()
    if name not in known:
        width = max(map(len, known))
        rows = ((f"  {other:<{width}}  ", example.summary) for other, example in known.items())
        there = "\n".join(head + shorten(said, LINE - len(head), placeholder=" ...") for head, said in rows)
        raise UserError(f"there is no example {name!r}.{did_you_mean(name, list(known), 3)} There are:\n{there}")
    return known[name]


def copy(example: Example, folder: Path) -> list[Path]:
    """Copy an example's files into a folder, made if need be; returns where they are. Nothing is overwritten."""
    wanted: dict[str, str | bytes] = {}
    for file in example.files():
        source = example.root / file
        if source.suffix == ".yaml":
            lines = source.read_text("utf-8").splitlines(keepends=True)
            wanted[str(file)] = "".join(_moved(line) for line in lines if not line.startswith(MODELINE))
        else:
            wanted[str(file)] = source.read_bytes()
    return write_new(folder, wanted)


def write_new(folder: Path, files: Mapping[str, str | bytes]) -> list[Path]:
    """Write files, by their place in a folder, which is made if need be; all of them, or none if one is there."""
    wanted = {folder / place: content for place, content in files.items()}
    there = [str(target) for target in wanted if target.exists() or target.is_symlink()]
    for place in (folder, *folder.parents):
        if not place.is_dir() and (place.exists() or place.is_symlink()):
            raise UserError(f"{place} is {'a file' if place.exists() else 'a link that leads nowhere'}: name a folder")
    if there:
        are = "is there already" if len(there) == 1 else "are there already"
        raise UserError(f"{', '.join(there)} {are}, and nothing was written: name another folder")
    for target, content in wanted.items():
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as failed:  # where no folder can be made, as in /proc, or in one that is gone
            raise UserError(f"{target.parent} cannot be made ({failed.strerror}): name another folder") from failed
        if isinstance(content, str):
            write_text(target, content)
        else:
            target.write_bytes(content)
    return list(wanted)


def _leading(lines: list[str]) -> Iterator[str]:
    """The lines of the comment at the beginning of a file."""
    for line in lines:
        if not line.startswith("#"):
            return
        if not line.startswith(MODELINE):
            yield line


def _moved(line: str) -> str:
    """A line of a spec for a folder of its own: a comment's commands name files of that folder."""
    return line.replace(IN_CLONE, "") if line.startswith("#") else line


def _needed(spec: Path, root: Path) -> Iterator[Path]:
    """Name a spec and the files that it names: code, also in its comment, data with all that lies beside it, a spec."""
    yield spec.relative_to(root)
    comment = " ".join(_leading(spec.read_text("utf-8").splitlines()))
    for program in re.findall(rf"{IN_CLONE}(\w+\.py)", comment):
        yield Path(program)
    for value in _texts(_data(spec)):
        module = value.rpartition(":")[0]
        code = root / f"{module.removeprefix('./').removesuffix('.py').replace('.', '/')}.py"
        data = root / value
        if module and code.is_file():
            yield code.relative_to(root)
        elif Path(value).suffix and data.is_file():
            if data.suffix == ".yaml":
                yield from _needed(data, root)
            else:
                yield from _below(data.parent, root) if data.parent != root else [data.relative_to(root)]


def _below(folder: Path, root: Path) -> list[Path]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)
    return [path.relative_to(root) for path in files]


def _data(spec: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(spec.read_text("utf-8")))


def _texts(data: Any) -> Iterator[str]:
    """Every text among the values of nested data."""
    if isinstance(data, dict):
        data = data.values()
    if isinstance(data, str):
        yield data
    elif not isinstance(data, int | float | None):
        for one in data:
            yield from _texts(one)
