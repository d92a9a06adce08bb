"""What an option takes, in words, from its JSON schema: "integer, 1 or more", "`carry` or `reset`", "list of text"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from environments.plugins import KIND

Schema = Mapping[str, Any]

WORDS = {
    "string": "text",
    "integer": "integer",
    "number": "number",
    "boolean": "true or false",
    "array": "list",
    "object": "map",
    "null": "null",
}
MOST_NAMED = 8  # choices that are listed
NO_DEFAULT = ""  # of what holds fields of its own
LONG_MAP = 60  # characters from which a default is shortened


def in_words(schema: Schema) -> str:
    """Say what a value may be; that null is allowed is the business of whoever says what null means."""
    branches = [one for one in schema.get("anyOf", schema.get("oneOf", ())) if one.get("type") != "null"]
    if branches:
        return " or ".join(dict.fromkeys(map(in_words, branches)))
    if kind := schema.get(KIND):
        return f"one of the {kind}"
    if choices := schema.get("enum", [schema["const"]] if "const" in schema else None):
        return _choices(choices)
    if "$ref" in schema or "properties" in schema:
        return "map"
    types = schema.get("type", ())
    if not isinstance(types, str):
        return " or ".join(WORDS[one] for one in types if one != "null") or "any"
    if types == "array":
        return _list(schema)
    if types == "object":
        values = schema.get("additionalProperties")
        known = isinstance(values, Mapping) and (held := in_words(values)) != "any"
        return f"map of names to {held}" if known else "map"
    return ", ".join([WORDS[types], *_range(schema)])


def options_of(schema: Schema) -> dict[str, dict[str, Any]]:
    """Describe the options of a model by its schema: what each takes, its default, its meaning."""
    required = schema.get("required", ())
    return {
        name: described(one, "required" if name in required else one.get("default", NO_DEFAULT))
        for name, one in schema.get("properties", {}).items()
    }


def described(schema: Schema, default: Any) -> dict[str, Any]:
    """Describe one option, with the default that it has where it is described."""
    meaning = " ".join(schema.get("description", "").split())
    return {"type": in_words(schema), "default": default, "meaning": meaning}


def as_written(value: Any, shorten: bool = False) -> str:
    """Write a default as a spec has it; a long map by its first key, if it is to be shortened."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        pairs = [f"{key}: {as_written(one, shorten)}" for key, one in value.items()]
        is_long = shorten and sum(map(len, pairs)) > LONG_MAP
        return "{" + ", ".join([pairs[0], "..."] if is_long else pairs) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(as_written(one, shorten) for one in value) + "]"
    return str(value)


def _choices(choices: Sequence[Any]) -> str:
    written = [as_written(one) for one in choices]
    if len(written) > MOST_NAMED:
        written = [*written[: MOST_NAMED - 1], f"{len(written) - MOST_NAMED + 1} more"]
    return " or ".join([", ".join(written[:-1]), written[-1]] if len(written) > 1 else written)


def _list(schema: Schema) -> str:
    if places := schema.get("prefixItems"):
        return f"list of {len(places)}: " + "; ".join(dict.fromkeys(map(in_words, places)))
    items = schema.get("items")
    return f"list: {in_words(items)}" if items else "list"


def _range(schema: Schema) -> list[str]:
    """Say the bounds of a number; a text that may not be empty goes without saying."""
    least, most = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if least is not None and most is not None:
        return [f"{_bound(least)} to {_bound(most)}"]
    said = [
        *([f"{_bound(least)} or more"] if least is not None else []),
        *([f"above {_bound(above)}"] if above is not None else []),
        *([f"at most {_bound(most)}"] if most is not None else []),
        *([f"below {_bound(below)}"] if below is not None else []),
    ]
    return [" and ".join(said)] if said else []


def _bound(value: float) -> str:
    return "2^63" if value == 2**63 else f"{value:,}" if isinstance(value, int) or value.is_integer() else f"{value:g}"
