"""Finding what a spec can name by `type`: files of a folder, those of installed packages, functions of the user's own.

A built-in type is the name of a file that defines `Config` and `create`; folders are read as text, and a file is
imported when it is asked for. Installed packages add types of the same shape by entry points. `package.module:function`
is the user's own, in a file beside the spec.

The names of our packages are ours. A folder of the user's that is called as one of them (`environments/mine.py`) lends
it its modules: `UserModules` finds those that we have none of. Its `__init__.py` is not run.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from environments.contracts import EnvironmentFault
from environments.factories import imported, raised, wrong_name

PACKAGES = ("environments", "orchestrator", "policies", "store")  # the packages whose names are ours
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class PluginKind:
    """One kind of thing that is found by name."""

    word: str  # what a person calls one: "environment"
    package: (
        str  # the folder, as a package; its last part is the group of entry points: "evergreen.environments"
    )
    calling: str  # of the user's own: how it is called and what it returns

    def types(self) -> dict[str, str]:
        """List the built-in types with the first line of their docstrings, importing none of them."""
        found = {}
        for path in sorted(self._folder().glob("*.py")):
            if (about := _about(path)) is not None:
                found[path.stem] = about
        return found

    def module(self, type_: str) -> ModuleType:
        """Import the file of a type.

        Raises:
            EnvironmentFault: there is no such type; the message lists those there are and names the nearest.
        """
        known = {name: f"{self.package}.{name}" for name in self.types()} | self._installed()
        if type_ not in known:
            near = difflib.get_close_matches(type_, known, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise EnvironmentFault(
                f"there is no {self.word} type {type_!r}.{hint} There are: {', '.join(known)};"
                " or give your own as package.module:function"
            )
        return importlib.import_module(known[type_])

    def function(self, type_: str, search_path: str | None) -> Callable[..., object]:
        """Import `package.module:function`; the user's folder is appended to the path, never put before ours.

        Raises:
            EnvironmentFault: the module or the function is not there, cannot be imported, is none of the user's, or it
                is not clear which module is meant.
        """
        if (wrong := wrong_name(type_)) is not None:
            raise EnvironmentFault(f"{self.word} type: {wrong}")
        module_name, _, attribute = type_.partition(":")
        if search_path is not None and search_path not in sys.path:
            sys.path.append(search_path)
        if (doubt := ambiguity(module_name)) is not None:
            raise EnvironmentFault(f"{self.word} type {type_!r}: {doubt}")
        try:
            module = imported(module_name)
        except ImportError as error:
            is_missing = isinstance(error, ModuleNotFoundError)
            if is_missing and f"{module_name}.".startswith(f"{error.name}."):
                raise EnvironmentFault(
                    f"{self.word} type {type_!r}: no module {module_name!r} on the path or in {search_path or 'it'}"
                ) from error
            # the module was found; something that it imports was not
            hint = (
                f". A file or folder of yours that is called {error.name!r} is not found under that name, which is"
                " ours: rename it, or import from a module in it"
            )
            raise EnvironmentFault(
                f"{self.word} type {type_!r} cannot be imported: {raised(error)}"
                f"{hint if error.name in PACKAGES and not is_missing else ''}"
            ) from error
        function: Any = getattr(module, attribute, None)
        if not callable(function):
            raise EnvironmentFault(
                f"{self.word} type {type_!r}: {module.__file__} has no function {attribute!r};"
                f" expected one that is called as {self.calling}"
            )
        return cast(Callable[..., object], function)

    def _folder(self) -> Path:
        return Path(__file__).parents[1].joinpath(*self.package.split("."))

    @cache  # noqa: B019 - there are two kinds, and they live as long as the process
    def _installed(self) -> dict[str, str]:
        """Give the types that installed packages add: entry points `name = package.module`."""
        group = f"evergreen.{self.package.rpartition('.')[2]}"
        return {entry.name: entry.value for entry in entry_points(group=group)}


@cache
def _about(path: Path) -> str | None:
    """Read the first line of a method's docstring; None of a file that is no method."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    defined = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    return (ast.get_docstring(tree) or "").partition("\n")[0] if {"Config", "create"} <= defined else None


class UserModules:
    """Finds modules in the user's folders that are called as a package of ours; asked when everyone else has failed."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Say where such a module is; a package itself is always ours."""
        return next(_places(name), None) if "." in name else None


def ambiguity(name: str) -> str | None:
    """Say what is unclear about a module that both we and the user have; None if nothing is."""
    files = [spec.origin for spec in _places(name) if spec.origin is not None]
    ours = [file for file in files if Path(file).is_relative_to(ROOT / name.partition(".")[0])]
    theirs = [file for file in files if file not in ours]
    if not ours or not theirs:
        return None
    return (
        f"it is found in {theirs[0]} and in {ours[0]}, which is Evergreen's own and hides yours: rename yours"
    )


def _places(name: str) -> Iterator[ModuleSpec]:
    """Find a module of one of our packages below every folder of the path, in its order."""
    package, *inner = name.split(".")
    if package not in PACKAGES:
        return
    folders = (Path(place, *([package, *inner][:-1])) for place in [*sys.path, str(ROOT)])
    for folder in dict.fromkeys(folders):
        if (spec := PathFinder.find_spec(name, [str(folder)])) is not None:
            yield spec


sys.meta_path.append(UserModules())
