"""Finding the parts: a kind of part is a folder here, a part is a file in it, imported on demand.

Packages outside add theirs by entry points of the group `evergreen.objectives`, such as
`shapers.damped = my_package.damped`; or a spec says where the user's own is: `shaper: ./damped.py:create`, or
`shaper: my_package.damped:create`, or the module alone, `shaper: my_package.damped`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, get_args

from environments.user_code import UserCodeError, ambiguity, import_user_code, is_user_code, wrong_name
from policies import plugins
from policies.objectives.aggregations import AGGREGATIONS
from policies.objectives.errors import ObjectiveError
from policies.objectives.parts import ControllerOptions, Kind, PartInfo, PartModule

KINDS: tuple[Kind, ...] = tuple(kind for kind in get_args(Kind) if kind != "aggregations")  # folders of parts
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
    """List the parts of a kind that have a name, without importing them."""
    if kind == "aggregations":
        return [*AGGREGATIONS, *sorted(plugins.AGGREGATIONS.installed())]
    return sorted(plugins.PARTS[kind].modules())


def is_outside(name: str) -> bool:
    """Whether a part is named by its place, a user's module or file."""
    return "." in name or is_user_code(name)


def load(kind: Kind, name: str) -> PartModule:
    """Import a part: a module with `SOURCE`, `Config` (a `PartOptions`), `create(config)`, and perhaps `INFO`.

    `create` gives None when the options turn the part off; that of a controller also takes the value to start from.
    """
    if kind == "aggregations" and name in AGGREGATIONS:
        return AGGREGATIONS[name]
    found = plugins.PARTS.get(kind, plugins.AGGREGATIONS)
    place = name if is_outside(name) else found.installed().get(name)
    if place is None:
        module = importlib.import_module(f"{found.package}.{name}")
        create = module.create
    else:
        module, create = _outside(place, kind)
    info = getattr(module, "INFO", PartInfo())
    return PartModule(kind, name, module.SOURCE, module.Config, create, info, module.__doc__ or "")


def every() -> list[tuple[Kind, str]]:
    """List all parts that are files."""
    return [(kind, name) for kind in KINDS for name in names(kind)]


def joined(texts: Iterable[str | None]) -> str | None:
    """Join what a preset and its parts remark, each text once; None: nothing."""
    return "; ".join(dict.fromkeys(text for text in texts if text)) or None


def _outside(name: str, kind: Kind) -> tuple[ModuleType, Callable[..., Any]]:
    """Import a user's part and its factory; a name that can be none of his is not imported to find out."""
    full = name if is_user_code(name) else f"{name}:create"
    if (wrong := wrong_name(full) or ambiguity(full)) is not None:
        raise ObjectiveError(wrong.replace(repr(full), f"`{name[:100]}`"))
    try:
        found, factory = import_user_code(full)
    except ImportError as error:
        raise ObjectiveError(
            f"cannot import `{name}`: {error}. Is its folder the spec's, the current one, or installed?"
        ) from error
    except UserCodeError as error:
        raise ObjectiveError(f"`{name}` cannot be imported: {error}") from error
    lacks = [said for said in ("SOURCE", "Config", factory) if not hasattr(found, said)]
    if lacks:
        raise ObjectiveError(f"`{name}` is no part of an objective: it lacks {', '.join(lacks)} ({found.__file__})")
    if former := [said for said in FORMER if hasattr(found, said)]:
        fields = ", ".join(f"{FORMER[said]}=..." for said in former)
        raise ObjectiveError(
            f"`{name}` says {', '.join(former)}, which nothing reads any more: say `INFO = PartInfo({fields})`, a "
            f"`policies.objectives.parts.PartInfo` (docs/extend.md; {found.__file__})"
        )
    if not isinstance(getattr(found, "INFO", PartInfo()), PartInfo):
        raise ObjectiveError(f"`INFO` of `{name}` is no `policies.objectives.parts.PartInfo` (docs/extend.md)")
    tells = any(hasattr(found.Config, said) for said in ("reach", "falls_below_target"))
    if kind == "controllers" and tells and not issubclass(found.Config, ControllerOptions):
        raise ObjectiveError(
            f"`Config` of `{name}` is no `policies.objectives.parts.ControllerOptions` (docs/extend.md)"
        )
    return found, getattr(found, factory)
