"""What a spec names as `package.module:function`: told from what it cannot be, before it is imported or called.

A name may be any text, and what it names any function there is: one of Python's own library is never a method of the
user's, and neither is a class of another kind or a function that takes other arguments. None of those is called.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from environments.contracts import EnvironmentFault

LONGEST = 200  # characters of such a name


def wrong_name(path: str) -> str | None:
    """Say why `package.module:function` cannot name anything of the user's; None: it can."""
    module, _, attribute = path.partition(":")
    if len(path) > LONGEST:
        return f"a name of {len(path):,} characters, where {LONGEST} is the most"
    if not attribute.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        return f"{path!r} is not written as package.module:function"
    package = module.partition(".")[0]
    if package in sys.stdlib_module_names:
        return f"{path!r} is in {package}, which is part of Python itself: name one of yours, in a file of another name"
    return None


def imported(module: str) -> ModuleType:
    """Import a module of the user's.

    Raises:
        ImportError: it is not there, or something that it imports is not.
        EnvironmentFault: it raised something else, or wanted to end the process.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise
    except (Exception, SystemExit) as error:
        raise EnvironmentFault(f"{module!r} cannot be imported: {raised(error)}") from error


def uncallable(
    function: object, contract: type, arguments: Sequence[object], options: Mapping[str, Any]
) -> str | None:
    """Say why calling a factory could not make what is wanted; None: it may be called."""
    if inspect.isclass(function) and not issubclass(function, contract):
        return f"it is a class that is no {contract.__module__}.{contract.__name__}"
    if not callable(function) or inspect.isbuiltin(function):
        return f"it is no function of a module of yours, but a {type(function).__name__}"
    try:
        inspect.signature(function).bind(*arguments, **options)
    except (TypeError, ValueError) as error:
        return str(error)
    return None


def raised(error: BaseException) -> str:
    """Say what foreign code raised, and in which line: "ValueError: no table, in mine.py:12"."""
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, SyntaxError):
        return said  # says its file and line itself
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{said}, in {Path(last.filename).name}:{last.lineno}"
