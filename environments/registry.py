"""Finding environments and rewards by their `type`: ours, those of installed packages, functions of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from environments.contracts import EnvironmentFault
from environments.plugins import PluginKind, UnusablePlugin, nearest_name
from environments.user_code import (
    PACKAGES,
    UserCodeError,
    ambiguity,
    import_user_code,
    module_name,
    raised,
    without_function,
    wrong_name,
)


def types(kind: PluginKind) -> dict[str, str]:
    """List the built-in types with the first line of their docstrings, importing none of them."""
    return {name: one.docstring.partition("\n")[0] for name, one in kind.built_in().items()}


def module_of(kind: PluginKind, type_: str) -> ModuleType:
    """Import the file of a type; an EnvironmentFault lists those there are and names the nearest."""
    known = kind.modules()
    if type_ not in known:
        if (lacking := without_function(type_)) is not None:
            raise EnvironmentFault(f"{kind.word} type {lacking}")
        near = nearest_name(type_, known)
        hint = "" if near is None else f" Did you mean {near}?"
        raise EnvironmentFault(
            f"there is no {kind.word} type {type_!r}.{hint} There are: {', '.join(known)};"
            " or give your own as package.module:function or ./file.py:function"
        )
    try:
        return kind.load(type_)
    except UnusablePlugin as wrong:
        raise EnvironmentFault(str(wrong)) from wrong


def function_of(kind: PluginKind, type_: str, folder: str | None, calling: str) -> Callable[..., object]:
    """Import a function of the user's own; `calling` says how it is called and what it returns.

    Raises:
        EnvironmentFault: the module or the function is not there, cannot be imported, is none of the user's, or it
            is not clear which module is meant.
    """
    if (wrong := wrong_name(type_)) is not None:
        raise EnvironmentFault(f"{kind.word} type: {wrong}")
    if (doubt := ambiguity(type_, folder)) is not None:
        raise EnvironmentFault(f"{kind.word} type {type_!r}: {doubt}")
    try:
        module, attribute = import_user_code(type_, folder)
    except UserCodeError as error:
        raise EnvironmentFault(f"{type_.rpartition(':')[0]!r} cannot be imported: {error}") from error
    except ImportError as error:
        raise EnvironmentFault(f"{kind.word} type {type_!r}{_not_imported(error, type_, folder)}") from error
    function: Any = getattr(module, attribute, None)
    if not callable(function):
        raise EnvironmentFault(
            f"{kind.word} type {type_!r}: {module.__file__} has no function {attribute!r};"
            f" expected one that is called as {calling}"
        )
    return function  # type: ignore[no-any-return]


def _not_imported(error: ImportError, type_: str, folder: str | None) -> str:
    """Say whether the user's module is not there, or something that it imports."""
    own, is_missing = module_name(type_, folder), isinstance(error, ModuleNotFoundError)
    if is_missing and str(error.name).endswith(".py"):
        return f": {error}"
    if is_missing and f"{own}.".startswith(f"{error.name}."):
        return f": no module {own!r} on the path or in {folder or 'it'}"
    hint = (
        f". A file or folder of yours that is called {error.name!r} is not found under that name, which is"
        " ours: rename it, or import from a module in it"
    )
    return f" cannot be imported: {raised(error)}{hint if error.name in PACKAGES and not is_missing else ''}"
