"""Where an environment comes from: a name in the spec, a type, options. Plain data that any process can build from.

A built-in type is the name of a file in this folder that has `Config` and `create`; it is found by reading the
folder and imported on demand; installed packages add types of the same shape by the entry points
`evergreen.environments`. `package.module:factory` is a function of the user's own, in a file beside the spec.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from environments.contracts import Category, Environment, EnvironmentFault
from environments.options import Options


@dataclass(frozen=True)
class EnvironmentSource:
    """The recipe of one environment; crosses process borders in place of the environment itself."""

    name: str  # in the spec
    type: str  # a file of this folder, or "package.module:factory"
    options: Mapping[str, Any] = field(default_factory=dict)  # what the spec says beside the type
    search_path: str | None = None  # the user's folder; appended to the path, never put before ours

    def create(self) -> Environment:
        """Build the environment.

        Raises:
            EnvironmentFault: the type is not there, its factory cannot be used, or what it made is no environment.
            pydantic.ValidationError: a built-in type refuses the options.
        """
        if ":" in self.type:
            return _checked(self._from_factory(), self.name)
        config = validate(self.type, self.options)
        assert config is not None
        return _checked(_module(self.type).create(self.name, config.within(self.search_path)), self.name)

    def _from_factory(self) -> object:
        factory = _factory(self.type, self.search_path)
        try:
            inspect.signature(factory).bind(self.name, **self.options)
        except TypeError as error:
            raise EnvironmentFault(
                f"environment {self.name}: {self.type} is called as factory(name, **options) and cannot take"
                f" the options {sorted(self.options)}: {error}"
            ) from error
        try:
            return factory(self.name, **self.options)
        except EnvironmentFault:
            raise
        except Exception as error:  # foreign code; whoever wrote it can do something about it
            raise EnvironmentFault(
                f"environment {self.name}: {self.type} raised {type(error).__name__}: {error}; mend it, or the options"
            ) from error


def types() -> dict[str, str]:
    """List the built-in types with the first line of their docstrings, importing none of them."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        defined = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
        if {"Config", "create"} <= defined:
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def validate(type_: str, options: Mapping[str, Any]) -> Options | None:
    """Check the options of a built-in type; None for a user's factory, which checks its own.

    Raises:
        EnvironmentFault: there is no such type, or an extra it needs is not installed.
        pydantic.ValidationError: an option is unknown or has a value that cannot be used.
    """
    if ":" in type_:
        return None
    return cast(Options, _module(type_).Config.model_validate(dict(options)))


def _module(type_: str) -> ModuleType:
    known = {name: f"environments.{name}" for name in types()} | _installed()
    if type_ not in known:
        near = difflib.get_close_matches(type_, known, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise EnvironmentFault(
            f"there is no environment type {type_!r}.{hint} There are: {', '.join(known)};"
            " or give your own as package.module:factory"
        )
    return importlib.import_module(known[type_])


@cache
def _installed() -> dict[str, str]:
    """Give the types that installed packages add: entry points `name = package.module`."""
    return {entry.name: entry.value for entry in entry_points(group="evergreen.environments")}


def _factory(type_: str, search_path: str | None) -> Callable[..., object]:
    module_name, _, attribute = type_.partition(":")
    if search_path is not None and search_path not in sys.path:
        sys.path.append(search_path)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module was found; something that it imports was not
        raise EnvironmentFault(
            f"environment type {type_!r}: no module {module_name!r} on the path or in {search_path or 'it'}"
        ) from error
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise EnvironmentFault(
            f"environment type {type_!r}: {module.__file__} has no function {attribute!r};"
            " expected one that is called as factory(name, **options) and returns an Environment"
        )
    return cast(Callable[..., object], factory)


def _checked(made: object, name: str) -> Environment:
    """Refuse at the wall what would fail obscurely later."""
    if not isinstance(made, Environment):
        raise EnvironmentFault(
            f"environment {name}: the factory returned {type(made).__name__}, not an environments.Environment"
        )
    if getattr(made, "name", None) != name:
        raise EnvironmentFault(f"environment {name}: set its attribute name to the name the factory is given")
    if not isinstance(getattr(made, "version", None), str):
        raise EnvironmentFault(f"environment {name}: set its attribute version to a string, for example '1'")
    categories: list[object] = list(made.categories)
    names = [category.name for category in categories if isinstance(category, Category)]
    if not names or len(set(names)) < len(categories):
        raise EnvironmentFault(
            f"environment {name}: expected at least one category, each name once, as Category objects;"
            f" found {names or categories}"
        )
    return made
