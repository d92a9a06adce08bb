"""Finding the parts: a kind of part is a folder here, a part is a file in it, imported on demand.

Packages outside add theirs by entry points of the group `evergreen.objectives`, such as
`shapers.damped = my_package.damped`; or a spec says the module itself, `shaper: my_package.damped`.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Iterable
from functools import cache
from importlib.metadata import entry_points
from types import ModuleType
from typing import get_args

from policies.errors import from_file
from policies.objectives.aggregations import AGGREGATIONS
from policies.objectives.errors import ObjectiveError
from policies.objectives.parts import ControllerOptions, Kind, PartInfo, PartModule

KINDS: tuple[Kind, ...] = tuple(kind for kind in get_args(Kind) if kind != "aggregations")  # folders of parts
GROUP = "evergreen.objectives"
# Constants that said, in earlier versions, what `PartInfo` says now.
FORMER = {
    "KNOB": "knob",
    "PUSHES_ENTROPY": "pushes_entropy",
    "LOWERS_ENTROPY": "lowers_entropy",
    "MISSING": "missing",
    "DIFFERS": "differs",
    "ANCHOR": "anchor",
    "IDLE_AT_ONE": "idle_at_one_update",
    "HOLDS": "holds",
    "SUBTRACTS": "subtracts",
    "NO_GROUPS": "compares_groups",
    "USES_EVEN_GROUPS": "learns_from_even_groups",
}


def names(kind: Kind) -> list[str]:
    """List the parts of a kind, without importing them."""
    if kind == "aggregations":
        return [*AGGREGATIONS, *sorted(_entered(kind))]
    folder = importlib.import_module(f"{__package__}.{kind}")
    return sorted({*(module.name for module in pkgutil.iter_modules(folder.__path__)), *_entered(kind)})


def load(kind: Kind, name: str) -> PartModule:
    """Import a part: a module with `SOURCE`, `Config` (a `PartOptions`), `create(config)`, and perhaps `INFO`.

    `create` gives None when the options turn the part off; that of a controller also takes the value to start from.
    """
    if kind == "aggregations" and name in AGGREGATIONS:
        return AGGREGATIONS[name]
    given = name if "." in name else _entered(kind).get(name)
    module = _outside(given, kind) if given else importlib.import_module(f"{__package__}.{kind}.{name}")
    info = getattr(module, "INFO", PartInfo())
    return PartModule(kind, name, module.SOURCE, module.Config, module.create, info, module.__doc__ or "")


def every() -> list[tuple[Kind, str]]:
    """List all parts that are files."""
    return [(kind, name) for kind in KINDS for name in names(kind)]


def joined(texts: Iterable[str | None]) -> str | None:
    """Join what a preset and its parts remark, each text once; None: nothing."""
    return "; ".join(dict.fromkeys(text for text in texts if text)) or None


@cache  # looking through what is installed takes milliseconds
def _entered(kind: Kind) -> dict[str, str]:
    """Modules of installed packages, by the name of the part."""
    prefix = f"{kind}."
    return {
        entry.name.removeprefix(prefix): entry.value
        for entry in entry_points(group=GROUP)
        if entry.name.startswith(prefix)
    }


def _outside(module: str, kind: Kind) -> ModuleType:
    """Import a user's part; a name that can be none of his is not imported to find out."""
    package = module.partition(".")[0]
    if not all(word.isidentifier() for word in module.split(".")):
        raise ObjectiveError(f"`{module[:100]}` is not written as package.module")
    if package in sys.stdlib_module_names:
        raise ObjectiveError(
            f"`{module}` is in `{package}`, which is part of Python itself and hides a file of that name: give yours "
            "another"
        )
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise ObjectiveError(
            f"cannot import `{module}`: {error}. Is its folder the spec's, the current one, or installed?"
        ) from error
    except (Exception, SystemExit) as error:  # whatever a user's code raises
        raise ObjectiveError(f"`{module}` cannot be imported: {from_file(error)}") from error
    lacks = [name for name in ("SOURCE", "Config", "create") if not hasattr(found, name)]
    if lacks:
        raise ObjectiveError(
            f"`{module}` is no part of an objective: it lacks {', '.join(lacks)} ({found.__file__})"
        )
    if former := [name for name in FORMER if hasattr(found, name)]:
        fields = ", ".join(f"{FORMER[name]}=..." for name in former)
        raise ObjectiveError(
            f"`{module}` says {', '.join(former)}, which nothing reads any more: say `INFO = PartInfo({fields})`, a "
            f"`policies.objectives.parts.PartInfo` (docs/extend.md; {found.__file__})"
        )
    if not isinstance(getattr(found, "INFO", PartInfo()), PartInfo):
        raise ObjectiveError(
            f"`INFO` of `{module}` is no `policies.objectives.parts.PartInfo` (docs/extend.md)"
        )
    tells = any(hasattr(found.Config, name) for name in ("reach", "falls_below_target"))
    if kind == "controllers" and tells and not issubclass(found.Config, ControllerOptions):
        raise ObjectiveError(
            f"`Config` of `{module}` is no `policies.objectives.parts.ControllerOptions` (docs/extend.md)"
        )
    return found
