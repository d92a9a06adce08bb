"""The names of our four packages are ours, whatever else is called so.

Python looks for a package in the working directory first (`python -c`, `-m`, a notebook, pytest), and after it where
ours are installed: a folder `environments` of the user's would take the place of ours. From the import of
`orchestrator` on they are found beside it, before anything else is asked. Modules in such a folder are found as well,
by `environments.user_code`; what a user's `environments/__init__.py` or `store.py` says is not.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

PACKAGES = ("environments", "policies", "store")
ROOT = Path(__file__).parents[1]


class PackageFinder:
    """Finds our packages where this one is."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Say where a package of ours is; nothing of any other."""
        return PathFinder.find_spec(name, [str(ROOT)]) if name in PACKAGES else None


def version_of(distribution: str) -> str:
    """Read the version of what is installed under a name, from its metadata; nothing of it is imported."""
    from importlib.metadata import PackageNotFoundError, version  # loads much, and whatever uses us imports this file

    try:
        return version(distribution)
    except PackageNotFoundError:  # our own may be used from its tree, without being installed
        return "not installed"


def claim() -> None:
    """Have our packages found first.

    Raises:
        ImportError: another package of that name has been imported already.
    """
    for name in PACKAGES:
        others = [Path(place).resolve() for place in getattr(sys.modules.get(name), "__path__", [])]
        if name in sys.modules and (ROOT / name).resolve() not in others:
            raise ImportError(
                f"{name!r} was imported from {', '.join(map(str, others)) or sys.modules[name]}, and Evergreen has a"
                " package of that name: import orchestrator before it, or rename it",
                name=name,
            )
    sys.meta_path.insert(0, PackageFinder())
