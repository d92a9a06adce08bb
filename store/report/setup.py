"""What was run: the main facts, the objective as it was composed, versions, and the whole spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from store.report.material import Material
from store.report.text import clipped
from store.secrets import without_logins

LONGEST = 200  # characters of a value in the spec

# As the spec's section calls them; `shaper` and `controller` did while there could be one only.
PARTS = (
    *("plans", "reward_maps", "estimator", "shaper", "shapers", "mismatch", "ratio", "terms"),
    *("aggregation", "controller", "controllers"),
)
OBJECTIVE_FIELDS = (*PARTS, "preset")


def objective_parts(material: Material) -> list[tuple[str, str]]:
    """The parts of the objective in the order in which they act; those that are off are left out."""
    section = material.spec.get("objective") or {}
    found = []
    for part in PARTS:
        value = section.get(part)
        named = ", ".join(map(_named, value if isinstance(value, list) else [value] if value else []))
        if named or (part in section and part.startswith("controller")):
            found.append((part, named or "none: nothing moves the force on entropy"))
    return found


def _named(part: Any) -> str:
    """A part by its name, with the options that it holds itself."""
    if not isinstance(part, Mapping):
        return str(part)
    return f"{part.get('type')}{_in_brackets({k: v for k, v in part.items() if k != 'type'})}"


def objective_options(material: Material) -> list[tuple[str, str]]:
    """The options of those parts."""
    section = material.spec.get("objective") or {}
    return [(k, _scalar(v)) for k, v in section.items() if k not in OBJECTIVE_FIELDS and v is not None]


def versions(material: Material) -> list[tuple[str, str]]:
    """What the run was made on."""
    return [(name, clipped(str(value), LONGEST)) for name, value in material.host.items()]


def spec_outline(material: Material) -> list[str]:
    """The resolved spec, as the lines of an indented outline."""
    return _outline(material.spec, 0)


def _outline(value: Mapping[str, Any], depth: int) -> list[str]:
    lines = []
    for key, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            lines += [f"{'  ' * depth}{key}:", *_outline(inner, depth + 1)]
        else:
            lines.append(f"{'  ' * depth}{key}: {clipped(_scalar(inner), LONGEST)}")
    return lines


def _in_brackets(options: Mapping[str, Any]) -> str:
    given = [f"{key} {_scalar(value)}" for key, value in options.items() if value is not None]
    return f" ({', '.join(given)})" if given else ""


def _scalar(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return f"[{', '.join(map(_scalar, value))}]"
    return "{}" if value == {} else without_logins(str(value))
