"""Kinds of plug-ins, and those that have a name: files of our folders, and entry points of installed packages.

A file of a kind's folder that defines `Config` and `create` is a plug-in, named as the file. Folders are read as text,
so listing imports nothing. An installed package names modules of the same shape by entry points, of the group
`evergreen.bandits` for example: `name = package.module`. None takes a name that one of ours has.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]  # where our packages are
LACKING = "it defines no `Config` and `create`"
KIND = "x-kind"  # in the JSON schema of a field that names a plug-in: of which kind


@dataclass(frozen=True)
class Listed:
    """A plug-in that has a name, as its source says without being imported."""

    name: str
    module: str
    docstring: str
    source: str  # the paper or "baseline"


class UnusablePlugin(Exception):
    """What an installed package names as a plug-in is none; the message names the package and says why."""


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
    def _entries(self) -> dict[str, EntryPoint]:
        return {name: entry for name, entry in self._all_entries().items() if name not in self.built_in()}

    def _all_entries(self) -> dict[str, EntryPoint]:
        group = entry_points(group=self.group)
        return {entry.name.removeprefix(self.prefix): entry for entry in group if entry.name.startswith(self.prefix)}

    def installed(self) -> dict[str, str]:
        """Give the modules that installed packages add, by name."""
        return {name: entry.value for name, entry in self._entries().items()}

    def modules(self) -> dict[str, str]:
        """Give the module of every plug-in that has a name."""
        return {name: one.module for name, one in self.built_in().items()} | self.installed()

    def listed(self, name: str) -> Listed | None:
        """Describe the plug-in of this name, reading no other; None if there is none. Raises UnusablePlugin."""
        if name not in self._entries():
            return self.built_in().get(name)
        module = self._entries()[name].value
        try:
            spec = importlib.util.find_spec(module)  # imports the packages that the module lies in
            if spec is None or spec.origin is None:
                raise ModuleNotFoundError(f"no module {module!r}")
            found = _read(name, module, Path(spec.origin))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # of foreign code
            raise self._unusable(name, error) from error
        if found is None:
            raise self._unusable(name, AttributeError(LACKING))
        return found

    def listing(self) -> dict[str, Listed]:
        """Describe all plug-ins that have a name and can be read, sorted by it."""
        found = dict(self.built_in())
        for name in self._entries():
            with suppress(UnusablePlugin):
                if (one := self.listed(name)) is not None:
                    found[name] = one
        return dict(sorted(found.items()))

    def unusable(self) -> dict[str, str]:
        """Say, by name, why plug-ins of installed packages cannot be read, or are not used."""
        found = {}
        for name, entry in sorted(self._all_entries().items()):
            if name not in self._entries():
                told = f"the {self.word} {name!r} of {_package(entry)} is not used: {entry.value} bears the name of a"
                found[name] = f"{told} built-in one, which stands; have its entry point say another name"
                continue
            try:
                self.listed(name)
            except UnusablePlugin as wrong:
                found[name] = str(wrong)
        return found

    def load(self, name: str) -> ModuleType:
        """Import the module of a plug-in that there is. Raises UnusablePlugin where one of a package cannot be."""
        if name not in self._entries():
            return importlib.import_module(self.modules()[name])
        try:
            module = importlib.import_module(self._entries()[name].value)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # of foreign code
            raise self._unusable(name, error) from error
        if not (hasattr(module, "Config") and hasattr(module, "create")):
            raise self._unusable(name, AttributeError(LACKING))
        return module

    def _unusable(self, name: str, error: BaseException) -> UnusablePlugin:
        entry = self._entries()[name]
        why = f"{entry.value}: {type(error).__name__}: {error}"
        told = f"the {self.word} {name!r} of {_package(entry)} cannot be used: {why}"
        return UnusablePlugin(f"{told}; mend or uninstall it")

    def contract_class(self) -> type:
        """Import the class of what a factory makes."""
        module, _, name = self.contract.partition(":")
        found: type = getattr(importlib.import_module(module), name)
        return found


def _package(entry: EntryPoint) -> str:
    return "an installed package" if entry.dist is None else f"the package {entry.dist.name}"


def _read(name: str, module: str, path: Path) -> Listed | None:
    """Read a file's docstring and SOURCE without importing it; None if it is no plug-in."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    bound = dict(_bound(tree))
    if not {"Config", "create"} <= bound.keys() and "*" not in bound:  # what that brings only the import shows
        return None
    source = ""
    if (value := bound.get("SOURCE")) is not None:
        with suppress(ValueError):  # it is no literal
            source = str(ast.literal_eval(value))
    return Listed(name, module, ast.get_docstring(tree) or "", source)


def _bound(block: ast.AST) -> Iterator[tuple[str, ast.expr | None]]:
    """Give the names that a module's statements bind, also those under `if` and `try`, with what is assigned."""
    for node in ast.iter_child_nodes(block):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name, None
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name, None) for alias in node.names)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from ((target.id, node.value) for target in targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.stmt | ast.excepthandler):
            yield from _bound(node)


ENVIRONMENTS = PluginKind.of("environments", "environments.contracts:Environment")
REWARDS = PluginKind.of("environments.rewards", "environments.rewards.contracts:Reward")


def nearest_name(word: str, known: Iterable[str]) -> str | None:
    """Find the known name that looks most like a word; among those, letters that changed places come first."""
    close = get_close_matches(word, list(known))
    return min(close, key=lambda name: sorted(name) != sorted(word), default=None)
