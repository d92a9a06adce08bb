"""Kinds of plug-ins, and those that have a name: files of our folders, and entry points of installed packages.

A file of a kind's folder that defines `Config` and `create` is a plug-in, named as the file. Folders are read as text,
so listing imports nothing. An installed package names modules of the same shape by entry points, of the group
`evergreen.bandits` for example: `name = package.module`.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

ROOT = Path(__file__).parents[1]  # where our packages are
KIND = "x-kind"  # in the JSON schema of a field that names a plug-in: of which kind


@dataclass(frozen=True)
class Listed:
    """A plug-in that has a name, as its source says without being imported."""

    name: str
    module: str
    docstring: str
    source: str  # the paper or "baseline"


@dataclass(frozen=True)
class PluginKind:
    """One kind of plug-in."""

    name: str  # of the kind: "bandits"
    package: str  # whose files are plug-ins
    group: str  # of entry points
    prefix: str = ""  # of this kind's names in that group
    contract: str = ""  # class of what a factory makes, as "module:Class"; parts of objectives have none

    @classmethod
    def of(cls, package: str, contract: str) -> PluginKind:
        """Make the kind that is called as its package's last name, with a group of entry points of its own."""
        name = package.rpartition(".")[2]
        return cls(name, package, f"evergreen.{name}", contract=contract)

    @property
    def word(self) -> str:
        """What one of them is called: "stop rule"."""
        return self.name.removesuffix("s").replace("_", " ")

    @cache  # noqa: B019 - the kinds live as long as the process
    def built_in(self) -> dict[str, Listed]:
        """Read the files of the folder."""
        folder = ROOT.joinpath(*self.package.split("."))
        read = (_read(path.stem, f"{self.package}.{path.stem}", path) for path in sorted(folder.glob("*.py")))
        return {one.name: one for one in read if one is not None}

    @cache  # noqa: B019
    def installed(self) -> dict[str, str]:
        """Give the modules that installed packages add, by name."""
        group = entry_points(group=self.group)
        return {e.name.removeprefix(self.prefix): e.value for e in group if e.name.startswith(self.prefix)}

    def modules(self) -> dict[str, str]:
        """Give the module of every plug-in that has a name."""
        return {name: one.module for name, one in self.built_in().items()} | self.installed()

    def listing(self) -> dict[str, Listed]:
        """Describe all plug-ins that have a name, sorted by it."""
        found = dict(self.built_in())
        for name, module in self.installed().items():
            spec = importlib.util.find_spec(module)
            if spec and spec.origin and (listed := _read(name, module, Path(spec.origin))) is not None:
                found[name] = listed
        return dict(sorted(found.items()))

    def contract_class(self) -> type:
        """Import the class of what a factory makes."""
        module, _, name = self.contract.partition(":")
        found: type = getattr(importlib.import_module(module), name)
        return found


def _read(name: str, module: str, path: Path) -> Listed | None:
    """Read a file's docstring and SOURCE without importing it; None if it is no plug-in."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    defined = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    assigned = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    if not {"Config", "create"} <= defined | assigned.keys():
        return None
    source = str(ast.literal_eval(assigned["SOURCE"])) if "SOURCE" in assigned else ""
    return Listed(name, module, ast.get_docstring(tree) or "", source)


ENVIRONMENTS = PluginKind.of("environments", "environments.contracts:Environment")
REWARDS = PluginKind.of("environments.rewards", "environments.rewards.contracts:Reward")


def nearest_name(word: str, known: Iterable[str]) -> str | None:
    """Find the known name that looks most like a word; among those, letters that changed places come first."""
    close = get_close_matches(word, list(known))
    return min(close, key=lambda name: sorted(name) != sorted(word), default=None)
