"""Finding the parts: a kind of part is a folder here, a part is a file in it, imported on demand."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Literal, get_args

Kind = Literal["estimators", "shapers", "ratio_rules", "terms", "controllers"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def names(kind: Kind) -> list[str]:
    """List the parts of a kind, without importing them."""
    folder = importlib.import_module(f"{__package__}.{kind}")
    return sorted(module.name for module in pkgutil.iter_modules(folder.__path__))


def load(kind: Kind, name: str) -> ModuleType:
    """Import a part: a module with `SOURCE`, `Config` (a `PartOptions`) and `create(config)`.

    `create` of a shaper or a term returns None when its options turn it off; that of a controller also takes the
    value to start from. A part may say `KNOB`, the option that a controller moves unless told otherwise, and
    `PUSHES_ENTROPY`: that it acts on entropy even where no group has a signal.
    """
    return importlib.import_module(f"{__package__}.{kind}.{name}")


def every() -> list[tuple[Kind, str]]:
    """List all parts there are."""
    return [(kind, name) for kind in KINDS for name in names(kind)]


def options(kind: Kind, name: str) -> list[str]:
    """List the options of a part."""
    return list(load(kind, name).Config.model_fields)
