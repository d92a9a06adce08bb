"""A user's own code, as a spec names it: `package.module:factory`, or `./file.py:factory` relative to the spec.

A module is found beside the spec, in the current folder or where packages are installed. A file is imported under a
name of its own, so it may be called anything, and a folder `environments` or `store` of the user's is in nobody's way.
Names are checked before anything is imported or called: a spec could name any function there is, so what is part of
Python's own library is refused.

The names of our packages are ours. A folder of the user's that is called as one of them (`environments/mine.py`) lends
it its modules: `UserModules` finds those that we have none of. Its `__init__.py` is not run.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from environments.plugins import ROOT

PACKAGES = ("environments", "orchestrator", "policies", "store")  # the packages whose names are ours
FOR_PACKAGES = frozenset({"site-packages", "dist-packages", "transformers_modules"})  # folders; the last of models
LONGEST = 200  # characters of a module's name
LONGEST_PATH = 1000  # and of a file's


class UserCodeError(Exception):
    """What a user's module raised as it was imported, other than ImportError, and in which line."""


def is_user_code(name: str) -> bool:
    """Whether a name in a spec is a user's `package.module:factory` or `./file.py:factory`."""
    return ":" in name


def wrong_name(name: str) -> str | None:
    """Say why a name cannot be of a user's code; None: it can."""
    module, _, attribute = name.rpartition(":")
    is_file = _is_file(module)
    if len(name) > (longest := LONGEST_PATH if is_file else LONGEST):
        return f"a name of {len(name):,} characters, where {longest} is the most"
    if module.endswith(".py") and not is_file:
        return f"{name!r} names a file without its folder: write ./{name}"
    words = [attribute] if is_file else [attribute, *module.split(".")]
    if not all(word.isidentifier() for word in words) or not name.isprintable():
        return f"{name!r} is not written as package.module:function or ./file.py:function"
    package = module.partition(".")[0]
    if not is_file and package in sys.stdlib_module_names:
        return f"{name!r} is in {package}, which is part of Python itself: name one of yours, in a file of another name"
    return None


def without_function(name: str) -> str | None:
    """Say what a name lacks that is a file alone; None: it is no file, or names its function."""
    if not name.endswith(".py"):
        return None
    place = name if "/" in name else f"./{name}"
    return f"{name!r} names a file, and no function in it: write {place}:create, or whatever its function is called"


def import_user_code(name: str, folder: str | None = None) -> tuple[ModuleType, str]:
    """Import the module of `package.module:factory` or `./file.py:factory`, and give the factory's name.

    Files are relative to `folder`, the spec's (None: the current one); modules are looked for in it last, so that it
    never hides a package. Raises ImportError: it, or something that it imports, is not there; UserCodeError: it raised
    something else, or wanted to end the process.
    """
    module, _, attribute = name.rpartition(":")
    places = [folder]
    if _is_file(module):
        path = _path(module, folder)
        if not path.is_file():
            raise ModuleNotFoundError(f"there is no file {path}", name=str(path))
        places.append(str(path.parent))  # for what stands beside it
    sys.path += [place for place in dict.fromkeys(places) if place is not None and place not in sys.path]
    try:
        return importlib.import_module(module_name(name, folder)), attribute
    except (ImportError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise UserCodeError(raised(error)) from error


def module_name(name: str, folder: str | None = None) -> str:
    """Give the name under which the module of a user's code is imported."""
    module = name.rpartition(":")[0]
    return UserFiles.register(_path(module, folder)) if _is_file(module) else module


def file_of(name: str, folder: str | None) -> Path | None:
    """Give the file of a user's function; None: there is none, or it is called by its module, which is not imported."""
    if wrong_name(name) is not None:
        return None
    module = name.rpartition(":")[0]
    named = str(_path(module, folder)) if _is_file(module) else getattr(sys.modules.get(module), "__file__", None)
    return Path(named) if named is not None and Path(named).is_file() else None


def code_digest(names: Iterable[str], folder: str | None) -> str:
    """Digest the files of a user's functions, without what those import themselves; 12 digits."""
    digest = hashlib.sha256()
    for name in names:
        if (path := file_of(name, folder)) is not None:
            digest.update(path.read_text(encoding="utf-8", errors="replace").encode())
    return digest.hexdigest()[:12]


def in_full(name: str, folder: str | None) -> str:
    """Write a file's name in full, so that it says the same in any folder; a module's name is left as it is."""
    module, _, attribute = name.rpartition(":")
    return f"{_path(module, folder)}:{attribute}" if _is_file(module) else name


def short_name(name: str) -> str:
    """Name a part for a person: by its function, or by its file where that is `create`; `focal` of `a.focal`."""
    place, _, attribute = name.rpartition(":")
    if attribute != "create" and place:
        return attribute
    return Path(place).stem if _is_file(place) else (place or name).rpartition(".")[2]


def as_written(name: str, folder: str | None) -> str:
    """Write a file below a folder relative to it, as `in_full` found it; any other name is left as it is."""
    module, _, attribute = name.rpartition(":")
    if folder is None or not _is_file(module) or not Path(module).is_relative_to(folder):
        return name
    return f"./{Path(module).relative_to(folder)}:{attribute}"


def uncallable(function: object, contract: type, arguments: Sequence[object], options: Mapping[str, Any]) -> str | None:
    """Say why calling a factory could not make what is wanted; None: it may be called."""
    if inspect.isclass(function) and not issubclass(function, contract):
        return f"it is a class that is no {contract.__module__}.{contract.__name__}"
    if not callable(function) or inspect.isbuiltin(function):
        return f"it is no function of a module of yours, but a {type(function).__name__}"
    try:
        inspect.signature(function).bind(*arguments, **options)
    except (TypeError, ValueError) as error:
        unknown = unknown_options(function, options)
        known = [] if not unknown else [name for name in inspect.signature(function).parameters if name not in options]
        near = difflib.get_close_matches(unknown[0], known, n=1) if unknown else []
        return f"{error}. Did you mean {near[0]!r}?" if near else str(error)
    return None


def unknown_options(function: object, options: Iterable[str]) -> list[str]:
    """Name the options that a function has no parameter for; none where it is no function."""
    try:
        parameters = inspect.signature(function).parameters  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return []
    takes_all = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    return [] if takes_all else [name for name in options if name not in parameters]


def raised(error: BaseException) -> str:
    """Say what foreign code raised, and in which line, of the user's own if one is: "KeyError: 3, in mine.py:12"."""
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, SyntaxError):
        return said  # says its file and line itself
    return said + (own_place(error) or _place(error, lambda path: not _is_ours(path)))


def own_place(error: BaseException) -> str:
    """Say in which line of a user's own code an error arose, the innermost: ", in mine.py:12"; empty: in none."""
    return _place(error, lambda path: not _is_ours(path) and not _is_installed(path))


def is_users_fault(error: BaseException) -> bool:
    """Whether an error arose in a user's own code, or in a library that it called, and not in ours that it called."""
    paths = (Path(frame.filename) for frame in reversed(traceback.extract_tb(error.__traceback__)))
    innermost = next((path for path in paths if path.is_file() and not _is_installed(path)), None)
    return innermost is not None and not _is_ours(innermost)


def _place(error: BaseException, is_meant: Callable[[Path], bool]) -> str:
    """Say where an error arose, as far in as there is a file that is meant."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_file() and is_meant(path):
            return f", in {path.name}:{frame.lineno}"
    return ""


def _is_ours(path: Path) -> bool:
    return any(path.is_relative_to(ROOT / package) for package in PACKAGES)


def _is_installed(path: Path) -> bool:
    """Whether a file is of Python's library, or of a package in a folder of any interpreter's for them."""
    return not FOR_PACKAGES.isdisjoint(path.parts) or any(path.is_relative_to(place) for place in _libraries())


@cache
def _libraries() -> list[str]:
    return [sysconfig.get_path(name) for name in ("stdlib", "platstdlib")]


def ambiguity(name: str, folder: str | None = None) -> str | None:
    """Say what is unclear about `package.module:factory` that both we and the user have; None if nothing is."""
    module = name.rpartition(":")[0]
    files = [spec.origin for spec in _places(module, folder) if spec.origin is not None]
    ours = [file for file in files if Path(file).is_relative_to(ROOT / module.partition(".")[0])]
    theirs = [file for file in files if file not in ours]
    if not ours or not theirs:
        return None
    return f"it is found in {theirs[0]} and in {ours[0]}, which is Evergreen's own and hides yours: rename yours"


class UserFiles:
    """Finds the files of users by the names under which they are imported."""

    _paths: dict[str, Path] = {}  # noqa: RUF012 - what this process knows

    @classmethod
    def register(cls, path: Path) -> str:
        """Give the name under which a file is imported: the same in every process."""
        name = f"evergreen_user_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}_{path.stem}"
        cls._paths[name] = path
        return name

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Say where such a file is."""
        return importlib.util.spec_from_file_location(name, cls._paths[name]) if name in cls._paths else None


class UserModules:
    """Finds modules in the user's folders that are called as a package of ours; asked when everyone else has failed."""

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Say where such a module is; a package itself is always ours."""
        return next(_places(name), None) if "." in name else None


def _is_file(module: str) -> bool:
    return module.endswith(".py") and "/" in module


def _path(module: str, folder: str | None) -> Path:
    return Path(os.path.abspath(Path(folder or "", Path(module).expanduser())))


def _places(name: str, last: str | None = None) -> Iterator[ModuleSpec]:
    """Find a module of a package of ours below every folder of the path, in its order."""
    package, *inner = name.split(".")
    if package not in PACKAGES:
        return
    folders = (Path(place, *([package, *inner][:-1])) for place in [*sys.path, *([last] if last else []), str(ROOT)])
    for folder in dict.fromkeys(folders):
        if (spec := PathFinder.find_spec(name, [str(folder)])) is not None:
            yield spec


sys.meta_path += [UserFiles, UserModules]
