"""The surface of the spec grows on purpose only; `tests/orchestrator/spec_schema.py` tells how."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from orchestrator.spec import Spec
from tests.orchestrator.spec_schema import FILE, schemas


def test_the_spec_is_the_one_that_was_agreed() -> None:
    """A method that is new has its own test and need not be in the file; one that is there stays what it was."""
    agreed, now = json.loads(FILE.read_text()), json.loads(json.dumps(schemas()))
    assert {name: now.get(name) for name in agreed} == agreed


def test_every_field_is_documented() -> None:
    undocumented = [
        f"{name}: {path}"
        for name, schema in schemas().items()
        for path, field in _fields(schema)
        if not {"description", "$ref"} & field.keys() and path.rpartition(".")[2] != "type"
    ]
    assert undocumented == []


def test_the_sections_are_those_of_the_design() -> None:
    assert set(Spec.model_fields) == {
        *(
            "name",
            "seed",
            "baseline",
            "policy",
            "warm_start",
            "environments",
            "curriculum",
            "step",
            "objective",
            "learner",
        ),
        *("sampler", "evaluate", "checkpoint"),
        *("scoring", "measure", "guards", "tracker", "ledger", "resources"),
    }


def _fields(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from schema.get("properties", {}).items()
    for model in schema.get("$defs", {}).values():
        yield from ((f"{model['title']}.{name}", field) for name, field in model.get("properties", {}).items())
