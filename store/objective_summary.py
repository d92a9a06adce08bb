"""What an objective is made of, as the resolved spec says it: for `show`, and for the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from store.secrets import values_without_logins

# As the spec's section calls them; `shaper` and `controller` did while there could be one only.
PARTS = (
    *("plans", "reward_maps", "estimator", "shaper", "shapers", "mismatch", "ratio", "terms"),
    *("aggregation", "controller", "controllers"),
)

NOTHING = "none: nothing moves the force on entropy"


def composed(section: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The parts of an objective in the order in which they act; those that are off are left out.

    A term whose own coefficient, the option of its name, is 0 is off.
    """
    found = []
    for part in PARTS:
        value = section.get(part)
        named = [one for one in (value if isinstance(value, list) else [value] if value else []) if one]
        if part == "terms":
            named = [term for term in named if section.get(term) != 0]
        if named or (part in section and part.startswith("controller")):
            text = ", ".join(map(_named, named))
            found.append((part, text or NOTHING))
    return found


def scalar(value: Any) -> str:
    """A value of the spec in words, without logins."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return f"[{', '.join(map(scalar, value))}]"
    return "{}" if value == {} else str(values_without_logins(value))


def _named(part: Any) -> str:
    """A part by its name, with the options that it holds itself."""
    if not isinstance(part, Mapping):
        return str(part)
    given = [f"{key} {scalar(value)}" for key, value in part.items() if key != "type" and value is not None]
    return f"{part.get('type')} ({', '.join(given)})" if given else str(part.get("type"))
