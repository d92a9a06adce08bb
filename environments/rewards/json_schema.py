"""JSON that satisfies a schema: the truth's, or one for all rows.

The answer is JSON and nothing else, or holds it in a ```json block (the last one counts). NaN, Infinity and decimals
beyond a float (1e400) are not JSON. The draft is the one that `$schema` names, else 2020-12; `format` is not checked. A
schema may refer to its own parts and to the drafts themselves; nothing is ever fetched, so references to other
documents are refused, as are those that lead nowhere.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from environments.contracts import Score, import_extra
from environments.options import Options, last_block
from environments.rewards.contracts import AnswerReward, Attempt

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

SOURCE = "https://json-schema.org, through the library jsonschema"

REFERENCES = ("$ref", "$dynamicRef")
NEEDS, INSTALL = "the reward json_schema needs the package jsonschema", "'evergreen-rl[rewards]'"


class Config(Options):
    """Options of JSON by schema."""

    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    """Schema for all rows; null: each row's truth is its schema, a map or its text."""
    format_value: float = Field(default=0.0, ge=0, lt=1)
    """Value of an answer that is JSON but does not satisfy the schema."""

    @field_validator("schema_")
    @classmethod
    def _is_a_schema(cls, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        if schema is not None:
            _validator(json.dumps(schema))
        return schema


class JsonSchema(AnswerReward):
    """1 for JSON that satisfies the schema, `format_value` for other JSON, 0 for anything else."""

    def __init__(self, config: Config) -> None:
        _library()
        self._schema = None if config.schema_ is None else json.dumps(config.schema_)
        self._format_value = config.format_value

    def judge(self, answer: str, attempt: Attempt) -> Score:
        validator = _validator(self._text(attempt.truth))
        try:
            try:
                found = _parse(answer)
            except ValueError:
                found = _parse(last_block(answer, ("json",)) or "")
            satisfied = validator.is_valid(found)
        except (ValueError, RecursionError, OverflowError):  # no JSON, or deeper or larger than anything asked for
            return Score.of(0.0)
        return Score.of(1.0 if satisfied else self._format_value)

    def check(self, truth: Any) -> None:
        """Refuse what is no schema; equal schemas are looked at once."""
        _validator(self._text(truth))

    def _text(self, truth: Any) -> str:
        if self._schema is not None:
            return self._schema
        if isinstance(truth, str):
            return truth
        if isinstance(truth, Mapping | bool):
            return json.dumps(truth)
        raise ValueError(f"expected a JSON schema as truth, found {truth!r}")


def _parse(text: str) -> Any:
    return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is beyond a float")
    return number


@lru_cache(maxsize=1024)
def _validator(text: str) -> Validator:
    """Read a schema; raises ValueError if the text is no schema, or refers to what is not there."""
    jsonschema, registry = _library()
    try:
        schema = json.loads(text)
        if not isinstance(schema, dict | bool):
            raise ValueError(f"expected a JSON schema, a map, found {text[:100]}")
        kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        kind.check_schema(schema)
        _follow_references(schema, kind, registry)
    except json.JSONDecodeError as error:
        raise ValueError(f"the JSON schema is not JSON: {error}") from error
    except jsonschema.SchemaError as error:
        raise ValueError(f"the JSON schema is not one: {error.message}") from error
    except RecursionError as error:
        raise ValueError("the JSON schema is nested too deeply") from error
    made: Validator = kind(schema, registry=registry)
    return made


def _follow_references(schema: Any, kind: Any, registry: Any) -> None:
    """Look up every reference of a schema, and of what it refers to; raises ValueError where one finds no schema."""
    dialects = import_extra("referencing.jsonschema", NEEDS, INSTALL)
    unresolvable = import_extra("referencing.exceptions", NEEDS, INSTALL).Unresolvable
    draft = dialects.specification_with(kind.ID_OF(kind.META_SCHEMA))
    root = draft.create_resource(schema)
    seen, waiting = set[int](), [(root, registry.resolver_with_root(root))]
    while waiting:
        part, resolver = waiting.pop()
        if id(part.contents) in seen or not isinstance(part.contents, dict):
            continue
        seen.add(id(part.contents))
        waiting += [(one, resolver.in_subresource(one)) for one in part.subresources()]
        for reference in (part.contents[key] for key in REFERENCES if isinstance(part.contents.get(key), str)):
            try:
                found = resolver.lookup(reference)
            except (unresolvable, ValueError, TypeError):
                found = None
            if found is None or not isinstance(found.contents, dict | bool):
                why = "which is not there, and nothing is fetched: put it into the schema"
                raise ValueError(f"the JSON schema refers to {reference}, {why}")
            waiting.append((draft.create_resource(found.contents), found.resolver))


def _library() -> tuple[Any, Any]:
    jsonschema = import_extra("jsonschema", NEEDS, INSTALL)
    return jsonschema, import_extra("jsonschema_specifications", NEEDS, INSTALL).REGISTRY


def create(config: Config) -> JsonSchema:
    return JsonSchema(config)
