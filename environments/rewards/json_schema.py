"""JSON that satisfies a schema: the truth's, or one for all rows.

The answer is JSON and nothing else, or holds it in a ```json block (the last one counts). NaN and Infinity are not
JSON. The draft is the one that `$schema` names, else 2020-12; `format` is not checked. A schema may refer to its
own parts and to the drafts themselves; nothing is ever fetched, so references to other documents are refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from environments.contracts import Score, import_extra
from environments.options import Options, last_block
from environments.rewards.contracts import AnswerReward, Attempt

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

SOURCE = "https://json-schema.org, through the library jsonschema"

DRAFTS = "://json-schema.org/"  # the drafts themselves come with the library


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
        except (ValueError, RecursionError):  # no JSON, or nested deeper than anything that was asked for
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
    return json.loads(text, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


@lru_cache(maxsize=1024)
def _validator(text: str) -> Validator:
    """Read a schema; raises ValueError if the text is no schema, or refers to other documents."""
    jsonschema, specifications = _library()
    try:
        schema = json.loads(text)
        if not isinstance(schema, dict | bool):
            raise ValueError(f"expected a JSON schema, a map, found {text[:100]}")
        kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        kind.check_schema(schema)
        own = list(_values(schema, "$id"))
        for reference in _values(schema, "$ref"):
            document = reference.partition("#")[0]
            is_known = DRAFTS in document or any(one.rstrip("#").endswith(document) for one in own)
            if document and not is_known:
                why = "and nothing is fetched: put it into the schema"
                raise ValueError(f"the JSON schema refers to {reference}, {why}")
    except json.JSONDecodeError as error:
        raise ValueError(f"the JSON schema is not JSON: {error}") from error
    except jsonschema.SchemaError as error:
        raise ValueError(f"the JSON schema is not one: {error.message}") from error
    except RecursionError as error:
        raise ValueError("the JSON schema is nested too deeply") from error
    made: Validator = kind(schema, registry=specifications.REGISTRY)
    return made


def _values(schema: Any, key: str) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get(key), str):
            yield schema[key]
        for value in schema.values():
            yield from _values(value, key)
    elif isinstance(schema, list):
        for value in schema:
            yield from _values(value, key)


def _library() -> tuple[Any, Any]:
    needs, install = "the reward json_schema needs the package jsonschema", "'evergreen-rl[rewards]'"
    jsonschema = import_extra("jsonschema", needs, install)
    return jsonschema, import_extra("jsonschema_specifications", needs, install)


def create(config: Config) -> JsonSchema:
    return JsonSchema(config)
