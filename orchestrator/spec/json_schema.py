"""The spec as one JSON Schema (draft 2020-12), for editors: every field and short form, every method's own options.

It is what pydantic says of the models, and what their validators know: a field that names a method takes the name
alone, a user's `package.module:factory`, or a map with `type` whose other keys are that method's options; one of them
stands for a list of one; an objective takes the options of all parts. Text is no number here, although a run reads it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from environments.plugins import KIND
from environments.rewards.config import Weight
from environments.rewards.functions import FunctionOptions
from environments.slices.options import SlicedEnvironment
from orchestrator import registry
from orchestrator.episode_options import EnvironmentsEpisodes
from orchestrator.option_types import as_written
from orchestrator.spec.dotted_fields import SHORT_FORMS
from orchestrator.spec.fields import DEFAULT_TYPES
from orchestrator.spec.model import Spec
from orchestrator.user_options import options_class
from policies.objectives import registry as parts
from policies.objectives.config import SHORT, ControllerConfig, ObjectiveConfig
from policies.plugins import PARTS
from store.sentences import listed

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
DEFS = "#/$defs/"
OWN = {
    "type": "string",
    "pattern": ":",
    "description": "Your own: `package.module:factory`, or `./file.py:factory` beside the spec.",
}
OWN_PART = {
    "type": "string",
    "pattern": "[.:]",
    "description": "Your own: `package.module`, or `./file.py:create` beside the spec.",
}
STRINGS = {**SHORT_FORMS, "tracker": "type"}  # what a plain string in place of a section stands for


def spec_schema() -> Schema:
    """Make the schema of a whole spec, with the methods of installed packages."""
    made = Spec.model_json_schema()
    shared: Schema = made.pop("$defs")
    shared |= _objective()
    for kind in registry.KINDS:
        shared |= _kind(kind)
    sections = made["properties"]
    for section, key in STRINGS.items():
        model = sections[section].pop("$ref")
        text = shared[model.removeprefix(DEFS)]["properties"][key]
        sections[section]["anyOf"] = [{"type": "string", **text}, {"$ref": model}]
    listed = shared["Measure"]["properties"]["of"]["items"]
    sections["measure"] = {"anyOf": [listed, {"type": "array", "items": listed}, {"$ref": f"{DEFS}Measure"}]}
    guard = {"$ref": f"{DEFS}GuardOptions"}
    sections["guards"] = {"anyOf": [guard, {"type": "array", "items": guard}, {"$ref": f"{DEFS}Guards"}]}
    _take_numbers_for_text(shared["ScoringOptions"])
    whole = _completed({**made, "$defs": shared})
    return {"$schema": DIALECT, **whole, "title": "A spec of Evergreen"}


def _kind(kind: str) -> Schema:
    """Define a kind, a name or a map of options, and the options of each of its methods as `kind.name`."""
    methods, default = registry.listing(kind), DEFAULT_TYPES.get(kind)
    own = FunctionOptions if kind == "rewards" else options_class(kind)
    shared = _options(f"{kind}.own", own, None)
    for method in methods:
        shared |= _options(f"{kind}.{method.name}", registry.config_class(kind, method.name), method)
    name = {"anyOf": [*({"const": one.name, "description": one.summary} for one in methods), OWN]}
    rules = [_if_type({"const": one.name}, f"{kind}.{one.name}") for one in methods]
    rules.append(_if_type(OWN, f"{kind}.own"))
    if default is not None:
        rules.append(
            {"if": {"type": "object", "not": {"required": ["type"]}}, "then": {"$ref": f"{DEFS}{kind}.{default}"}}
        )
    shared[kind] = {
        "anyOf": [{"type": "string", **name}, {"type": "object"}],  # from these, editors propose what to write
        "if": {"type": "object"},
        "then": {"properties": {"type": name}, "allOf": rules, **({} if default else {"required": ["type"]})},
    }
    return shared


def _if_type(word: Schema, definition: str) -> Schema:
    return {
        "if": {"type": "object", "properties": {"type": word}, "required": ["type"]},
        "then": {"$ref": f"{DEFS}{definition}"},
    }


def _options(name: str, config: type[BaseModel], method: registry.Method | None) -> Schema:
    """Define the options of a method, and what they consist of; None: of the user's own."""
    made = config.model_json_schema()
    shared: Schema = made.pop("$defs", {})
    fields = made.setdefault("properties", {})
    if method is not None:
        made["description"] = method.summary
    if name.startswith("rewards."):
        fields |= Weight.model_json_schema()["properties"]
    if name.startswith("environments."):
        for one in (SlicedEnvironment, EnvironmentsEpisodes):
            beside = one.model_json_schema()
            shared |= beside.pop("$defs")
            fields |= beside["properties"]
    made["required"] = [key for key in made.get("required", ()) if key != "type"]
    if config.model_config.get("coerce_numbers_to_str"):
        _take_numbers_for_text(made)
    fields["type"] = OWN if method is None else {"const": method.name}
    return {name: made, **shared}


def _take_numbers_for_text(schema: Any) -> None:
    """Let numbers stand for text, in place: as names of categories, for one."""
    if isinstance(schema, dict):
        if schema.get("type") == "string" and not {"const", "enum"} & schema.keys():
            schema["type"] = ["string", "number"]
        for one in schema.values():
            _take_numbers_for_text(one)
    elif isinstance(schema, list):
        for one in schema:
            _take_numbers_for_text(one)


def _objective() -> Schema:
    """Define the objective and its controllers: fields that name parts, and the options of every part there is."""
    made = ObjectiveConfig.model_json_schema()
    fields, controller = made["properties"], made.pop("$defs")[ControllerConfig.__name__]
    presets = registry.listing(registry.OBJECTIVES)
    fields["preset"]["anyOf"] = [{"const": one.name, "description": one.summary} for one in presets]
    of_one = [fields["preset"], {"$ref": f"{DEFS}{ObjectiveConfig.__name__}"}]
    fields["by"]["additionalProperties"] = {"anyOf": of_one}
    fields["controllers"] = _one_or_more(fields["controllers"], or_none=True)
    fields |= {short: {**fields[long], "description": f"One of the {long}."} for short, long in SHORT.items()}
    names = {field for field, one in fields.items() if KIND in one or KIND in one.get("items", {})}
    every = [*parts.every(), *(("aggregations", name) for name in parts.names("aggregations"))]
    _add_options(fields, [part for part in every if part[0] != "controllers"])
    _add_options(controller["properties"], [part for part in every if part[0] == "controllers"])
    _refuse_others(made, names)
    _refuse_others(controller, {"type"})
    of_controller = {"anyOf": [controller["properties"]["type"], {"$ref": f"{DEFS}Controller"}]}
    controller.pop("required")  # the preset's stays, with other options
    return {ObjectiveConfig.__name__: made, ControllerConfig.__name__: of_controller, "Controller": controller}


def _add_options(fields: Schema, of: Iterable[tuple[Any, str]]) -> None:
    """Add the options of parts to a section's fields, in place, each with the parts that it belongs to."""
    found: dict[str, list[tuple[str, Schema]]] = {}
    for kind, name in of:
        for key, option in parts.load(kind, name).Config.model_json_schema()["properties"].items():
            found.setdefault(key, []).append((name, option))
    for key, options in found.items():
        about = [f"{one.get('description', '')} (of {name})" for name, one in options]
        owners = listed([name for name, _ in options], len(options))
        texts = {one.get("description") for _, one in options}
        said = f"{texts.pop()} (of {owners})" if len(texts) == 1 else "\n".join(about)
        bare = [{k: v for k, v in one.items() if k not in ("description", "default", "title")} for _, one in options]
        different = [one for place, one in enumerate(bare) if one not in bare[:place]]
        values = different[0] if len(different) == 1 else {"anyOf": different}
        defaults = [one["default"] for _, one in options if "default" in one]
        same = {"default": defaults[0]} if defaults and all(one == defaults[0] for one in defaults) else {}
        fields[key] = {**values, "description": said, **same}


def _refuse_others(section: Schema, names: Iterable[str]) -> None:
    """Refuse keys of no part, in place, unless a part is the user's own: then it may have options of any name."""
    own = {"type": "string", "pattern": OWN_PART["pattern"]}
    is_own = {"anyOf": [own, {"type": "array", "contains": own}]}
    section["if"] = {"anyOf": [{"properties": {field: is_own}, "required": [field]} for field in sorted(names)]}
    section["else"] = {"properties": dict.fromkeys(section["properties"], True), "additionalProperties": False}


def _completed(schema: Any) -> Any:
    """Put what names of methods may be in the place of their kind, and defaults where editors show them."""
    if isinstance(schema, list):
        return [_completed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    is_list = schema.get("type") == "array" and KIND in schema.get("items", {})
    made = {key: _completed(one) for key, one in schema.items() if key != KIND and not _is_title(key, one)}
    if kind := schema.get(KIND):
        made = _named(kind, schema["type"], {k: v for k, v in made.items() if k in ("description", "default")})
    if is_list:
        made = _one_or_more(made, or_none=schema["items"]["type"] == "string")
    if isinstance(made.get("description"), str) and made.get("default") is not None:
        made["description"] = f"{made['description']}\n\nDefault: {as_written(made['default'])}"
    return made


def _is_title(key: str, value: Any) -> bool:
    """Whether this is a name that pydantic made of a field's; not a field that is called so."""
    return key == "title" and isinstance(value, str)


def _named(kind: str, types: str | list[str], about: Schema) -> Schema:
    if types == "string":  # the name of a part of an objective
        summaries = {one.name: one.summary for one in registry.listing(kind)} if kind in PARTS else {}
        known = [{"const": name, "description": summaries.get(name, "")} for name in parts.names(kind)]  # type: ignore[arg-type]
        return {**about, "type": "string", "anyOf": [*known, OWN_PART]}
    one = {"$ref": f"{DEFS}{kind}"}
    return {**about, "anyOf": [one, {"type": "array", "items": one}]} if "array" in types else {**about, **one}


def _one_or_more(schema: Schema, *, or_none: bool) -> Schema:
    """Let one stand for a list of one, and `none` or null for an empty list."""
    about: Schema = {key: schema[key] for key in ("description", "default") if key in schema}
    several = {key: value for key, value in schema.items() if key not in about}
    none = [{"enum": ["none", None]}] if or_none else []
    return {**about, "anyOf": [several["items"], several, *none]}
