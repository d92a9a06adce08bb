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
from typing import Literal, get_args

from policies.errors import from_file
from policies.objectives.errors import ObjectiveError

Kind = Literal[
    "plans",
    "reward_maps",
    "estimators",
    "shapers",
    "mismatch_weights",
    "ratio_rules",
    "terms",
    "controllers",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
GROUP = "evergreen.objectives"


def names(kind: Kind) -> list[str]:
    """List the parts of a kind, without importing them."""
    folder = importlib.import_module(f"{__package__}.{kind}")
    return sorted({*(module.name for module in pkgutil.iter_modules(folder.__path__)), *_entered(kind)})


def load(kind: Kind, name: str) -> ModuleType:
    """Import a part: a module with `SOURCE`, `Config` (a `PartOptions`) and `create(config)`.

    `create` of a shaper or a term returns None when its options turn it off; that of a controller also takes the
    value to start from. A part may say

        KNOB            the option that a controller moves unless told otherwise; of one: what it is made for
        PUSHES_ENTROPY  it acts on entropy even where no group has a signal
        MISSING         what of it is not verified: then it is experimental
        DIFFERS         where it departs on purpose from the code that it was checked against
        ANCHOR          of a ratio rule: `lp_roll` if its ratio is to the sampler, so that no mismatch weight is due
        LOWERS_ENTROPY  its knob lowers entropy where it is positive; all other forces on entropy raise it
        IDLE_AT_ONE     it does nothing with one update a step
        HOLDS           of a term: it keeps the policy near the start of the step, so that no ratio rule has to
        NO_GROUPS       of an estimator: it does not compare inside groups
        USES_EVEN_GROUPS  of an estimator: it learns from groups without spread
    """
    if "." in name:
        return _outside(name)
    module = _entered(kind).get(name, f"{__package__}.{kind}.{name}")
    return importlib.import_module(module)


def every() -> list[tuple[Kind, str]]:
    """List all parts there are."""
    return [(kind, name) for kind in KINDS for name in names(kind)]


def remarks(
    flag: Literal["MISSING", "DIFFERS"], modules: Iterable[ModuleType], own: str | None
) -> str | None:
    """Join what a preset itself (`own`) and its parts say under a flag, each text once; None: nothing is said."""
    texts = dict.fromkeys(
        text for text in (own, *(getattr(module, flag, None) for module in modules)) if text
    )
    return "; ".join(texts) or None


def options(kind: Kind, name: str) -> list[str]:
    """List the options of a part."""
    return list(load(kind, name).Config.model_fields)


@cache  # looking through what is installed takes milliseconds
def _entered(kind: Kind) -> dict[str, str]:
    """Modules of installed packages, by the name of the part."""
    prefix = f"{kind}."
    return {
        entry.name.removeprefix(prefix): entry.value
        for entry in entry_points(group=GROUP)
        if entry.name.startswith(prefix)
    }


def _outside(module: str) -> ModuleType:
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
    return found
