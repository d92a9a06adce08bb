"""The reference of a spec: every section and field, what it takes, its default and its meaning, read off the model.

`evergreen methods spec` prints it, docs/spec.md is made of it. A section is a map of fields, or the place of a method:
then its fields are the options of the method that is there by default, which a map without a `type` is about.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from environments.plugins import KIND
from orchestrator import registry
from orchestrator.errors import SpecError
from orchestrator.option_types import options_of
from orchestrator.spec.fields import DEFAULT_TYPES
from orchestrator.spec.model import Spec
from orchestrator.spec.section_examples import EXAMPLES
from store.sentences import listed

SPEC = "spec"  # the word by which sections are listed among the kinds of methods
ANY = "NAME"  # stands in a path for a name of the user's own
DEFS = "#/$defs/"
BY_NAME = "by name"  # marks what stands in a map of names

Schema = dict[str, Any]


@dataclass(frozen=True)
class SpecSection:
    """A section of the spec."""

    path: str  # "curriculum.stage"; empty: the fields that stand in no section
    summary: str  # a sentence
    text: str  # all that is said of it, but for its fields
    options: dict[str, dict[str, Any]] = field(default_factory=dict)  # by name: type, default, meaning
    kind: str | None = None  # of the methods that can be named here
    default: str | None = None  # the method that is there if none is named
    example: str = ""  # YAML

    @property
    def story(self) -> str:
        """The text, and which methods can be named here, where to read of them, and whose options the fields are."""
        if self.kind is None or not (methods := registry.listing(self.kind)):
            return self.text
        names, ask = listed([one.name for one in methods], len(methods)), f"`evergreen methods {self.kind}"
        its_options = "" if self.default is None else f" Those of {self.default}, the default:"
        return "\n\n".join(
            (self.text, f"There are {names}.", f"{ask}` says what each is, {ask} NAME` its options.{its_options}")
        )


@cache
def sections() -> dict[str, SpecSection]:
    """All sections by path, in the order of the spec."""
    schema = Spec.model_json_schema()
    fields = schema["properties"]
    found = {one.path: one for key, value in fields.items() for one in _walk(key, value, schema["$defs"])}
    for path, one in found.items():
        for key, option in one.options.items():
            inner = found.get(f"{path}.{key}")
            if inner is not None and inner.kind is None:
                option["type"] = f"section {inner.path}"
    alone = options_of({"properties": {key: one for key, one in fields.items() if key not in found}})
    return {"": SpecSection("", "", "Fields that stand in no section.", alone, example=EXAMPLES[""]), **found}


def listing() -> list[registry.Method]:
    """Name everything at the top of a spec and every section, in its order, a line each."""
    top, *others = sections().values()
    lines = [(key, _first_sentence(option["meaning"])) for key, option in top.options.items()]
    lines += [(one.path, one.summary) for one in others]
    order = {key: place for place, key in enumerate(Spec.model_fields)}
    lines.sort(key=lambda line: order[line[0].partition(".")[0]])
    return [registry.Method(SPEC, path, said, "", __name__) for path, said in lines]


def describe(path: str) -> dict[str, Any]:
    """Tell a section, or one field of it. Raises SpecError, with the nearest names, where there is none."""
    known, (parent, _, key) = sections(), path.rpartition(".")
    if path and path in known:
        one, options = known[path], known[path].options
    elif parent in known and key in known[parent].options:
        one, options = known[parent], {key: known[parent].options[key]}
    else:
        raise SpecError(f"a spec has no section or field {path!r} (`evergreen methods spec` lists all){_nearest(path)}")
    is_whole = options is one.options
    text, example = (one.story, one.example) if is_whole else ("", "")
    return {"kind": SPEC, "name": path, "source": "", "text": text, "options": options, "example": example}


def _nearest(path: str) -> str:
    """Propose the command that tells a method, or sections and fields that are called so somewhere else, or nearly."""
    if (method := _method_in(path)) is not None:
        return f". `evergreen methods {method.kind} {method.name}` tells {method.name} and its options"
    known = [*filter(None, sections())]
    known += [f"{one.path}.{key}".lstrip(".") for one in sections().values() for key in one.options]
    by_key: dict[str, list[str]] = {}
    for name in dict.fromkeys(known):
        by_key.setdefault(name.rpartition(".")[2], []).append(name)
    close = difflib.get_close_matches(path, known, n=1)
    close = by_key.get(path.rpartition(".")[2]) or close or by_key.get(next(iter(_close(path, by_key)), ""), [])
    return f". Did you mean {' or '.join(map(repr, close))}?" if close else ""


def _method_in(path: str) -> registry.Method | None:
    """Find the method that a path names in its place, as `environments.rows` does."""
    for one in sections().values():
        if one.kind is not None and path.startswith(f"{one.path}."):
            name = path.removeprefix(f"{one.path}.").partition(".")[0]
            return next((method for method in registry.listing(one.kind) if method.name == name), None)
    return None


def _close(path: str, known: dict[str, list[str]]) -> list[str]:
    return difflib.get_close_matches(path.rpartition(".")[2], known, n=1)


def _walk(path: str, schema: Schema, shared: Schema) -> Iterator[SpecSection]:
    """Find the section that stands in a field, if one does, and those inside of it, outer ones first."""
    found = list(_parts(schema))
    place = next((one for one in found if KIND in one and one["type"] != "string"), None)
    if place is not None:
        yield _place_of_methods(path, schema, place)
        return
    for one in found:
        if "$ref" in one:
            model = shared[one["$ref"].removeprefix(DEFS)]
            where = f"{path}.{ANY}" if one.get(BY_NAME) else path
            fields = model.get("properties", {})
            options = _of_the_preset(fields) if "preset" in fields else options_of(model)
            text = model.get("description", "")
            summary = _first_sentence(text if one.get(BY_NAME) else schema.get("description", text))
            yield SpecSection(where, summary, text, options, example=EXAMPLES.get(where, ""))
            for key, value in fields.items():
                yield from _walk(f"{where}.{key}", value, shared)


def _of_the_preset(fields: Schema) -> dict[str, dict[str, Any]]:
    """Describe the fields of an objective, and the options of its parts, with what its default preset says."""
    preset = registry.find(registry.OBJECTIVES, fields["preset"]["default"])
    options: dict[str, dict[str, Any]] = registry.describe(preset)["options"]
    return options


def _place_of_methods(path: str, schema: Schema, place: Schema) -> SpecSection:
    """Tell what can be named in a place, and the options of what is there by default."""
    kind, given, about = place[KIND], schema.get("default"), schema["description"]
    default = given if isinstance(given, str) else None
    options = {} if default is None else registry.describe(registry.find(kind, default))["options"]
    text = f"{about}\n\n{_how_to_name(schema, place, default)}"
    return SpecSection(path, _first_sentence(about), text, options, kind, default, EXAMPLES.get(path, ""))


def _how_to_name(schema: Schema, place: Schema, default: str | None) -> str:
    """Say what may be written in a place of methods."""
    own = "`package.module:factory` or `./file.py:factory`"
    if place.get(BY_NAME):
        return f"A map of names of yours, each to a map with a `type` and its options; a type of your own is {own}."
    several = ", or a list of those" if schema.get("type") == "array" else ""
    is_default = f"; a map without `type` is about {default}" if default in DEFAULT_TYPES.values() else ""
    return f"A name, or a map with `type` and options{several}{is_default}. One of your own is {own}."


def _parts(schema: Schema) -> Iterator[Schema]:
    """Give a field's schema and what it consists of: branches, entries of a list, values of a map."""
    yield schema
    for branch in schema.get("anyOf", ()):
        yield from _parts(branch)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            for one in _parts(schema[key]):
                yield {**one, BY_NAME: True} if key == "additionalProperties" else one


def _first_sentence(text: str) -> str:
    head, dot, _ = " ".join(text.split()).partition(". ")
    return head + ("." if dot else "")
