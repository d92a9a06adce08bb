"""The surface of the spec grows on purpose only; `tests/orchestrator/spec_documents.py` tells how."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator import registry
from orchestrator.errors import SpecError
from orchestrator.spec import Spec, load_spec
from orchestrator.spec.json_schema import spec_schema
from orchestrator.spec.reference import sections
from policies.objectives.presets import PRESETS
from tests.orchestrator.spec_documents import SCHEMA as SCHEMA_FILE
from tests.orchestrator.spec_documents import documents
from tests.orchestrator.specs import EXAMPLES, small

jsonschema = pytest.importorskip("jsonschema")  # of the extra `rewards`

SCHEMA = spec_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def problems(spec: Any) -> list[str]:
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in VALIDATOR.iter_errors(spec)]


def with_fields(**fields: Any) -> dict[str, Any]:
    """A spec with one environment, and fields such as `learner__lr`."""
    spec: dict[str, Any] = {"environments": {"book": "codebook"}}
    for path, value in fields.items():
        *parents, last = path.split("__")
        place = spec
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return spec


def test_what_is_kept_of_the_model_is_what_it_is() -> None:
    for path, text in documents().items():
        assert path.read_text() == text, f"{path} is stale: python -m tests.orchestrator.spec_documents --write"


def test_every_field_says_what_it_means_and_what_null_means() -> None:
    told = [(one.path or "a spec", one.options) for one in sections().values()]
    every = [method for kind in (*registry.KINDS, *registry.PARTS) for method in registry.listing(kind)]
    told += [(f"{one.kind} {one.name}", registry.describe(one)["options"]) for one in every]
    for where, options in told:
        for key, option in options.items():
            assert option["meaning"], f"{where}: {key}"
            if option["default"] is None:
                assert "null" in option["meaning"].lower(), f"{where}: {key} does not say what null is"


def test_the_reference_gives_the_defaults_that_a_spec_resolves_to() -> None:
    resolved = load_spec({"environments": {"book": "codebook"}, "warm_start": {}, "policy": "x/y"})
    written = resolved.model_dump(mode="json", by_alias=True)
    by_policy = {"learner.lr", "learner.betas", "learner.micro_tokens", "policy.model"}
    for one in sections().values():
        place: Any = written
        for key in filter(None, one.path.split(".")):
            place = place.get(key) if isinstance(place, dict) else None
        if one.default is not None:
            assert (place or {"type": "random"})["type"] == one.default, one.path  # null: the random teacher
        for key, option in one.options.items():
            path = f"{one.path}.{key}".lstrip(".")
            if isinstance(place, dict) and key in place and path not in {*sections(), *by_policy}:
                assert place[key] == option["default"], path


def test_the_sections_are_those_of_the_design() -> None:
    assert set(Spec.model_fields) == {
        *("name", "seed", "baseline", "policy", "warm_start", "environments", "curriculum", "step", "objective"),
        *("learner", "sampler", "evaluate", "checkpoint", "scoring", "measure", "guards"),
        *("tracker", "ledger", "resources"),
    }


@pytest.mark.parametrize("one", sections().values(), ids=lambda one: one.path or "top")
def test_the_example_of_a_section_is_a_spec(one: Any) -> None:
    if one.path == "guards":
        return
    assert one.example, f"{one.path} has none in orchestrator/spec/section_examples.py"
    given = yaml.safe_load(one.example)
    top = one.path.partition(".")[0]
    assert not top or top in given, "it is about its section"
    spec = {"environments": dict.fromkeys(("words", "book"), "codebook"), **given}
    load_spec(spec)
    assert problems(spec) == []


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_an_example_fits_the_schema_as_written_and_as_resolved(path: Any) -> None:
    written = yaml.safe_load(path.read_text())
    assert problems(written) == []
    assert problems(load_spec(path).model_dump(mode="json", by_alias=True)) == []


def test_every_preset_and_every_method_that_needs_no_option_fits() -> None:
    places = {"bandits": "bandit", "schedulers": "scheduler", "selections": "selection", "teachers": "teacher"}
    specs = [with_fields(objective=name) for name in PRESETS]
    for kind, place in places.items():
        specs += [with_fields(**{f"curriculum__{place}": one.name}) for one in registry.listing(kind)]
        specs += [with_fields(**{f"curriculum__{place}": {"type": one.name}}) for one in registry.listing(kind)]
    specs += [with_fields(sampler=one.name) for one in registry.listing("samplers")]
    specs += [with_fields(curriculum__stage={"stop": one.name}) for one in registry.listing("stop_rules")]
    unfit = [(spec, found) for spec in specs if (found := problems(spec)) and loads(spec)]
    assert unfit == []
    assert problems(small()) == []


def loads(spec: dict[str, Any]) -> bool:
    try:
        load_spec(copy.deepcopy(spec))
    except SpecError:
        return False
    return True


WELL = [
    {"curriculum__bandit": {"floor": 0.2}},  # of the default bandit
    {"curriculum__bandit": "./mine.py:create"},
    {"curriculum__bandit": {"type": "my.module:create", "depth": 3, "signal": "variance"}},
    {"curriculum__stage": {"stop": ["mastery", {"type": "plateau"}, "./x.py:create"]}},
    {"curriculum__boundary": {"interventions": ["redo", {"type": "./x.py:create", "when": "every 2 stages", "y": 1}]}},
    {"curriculum__boundary": {"interventions": {"type": "redo", "tau": 0.1, "when": {"after": [1]}}}},
    {"objective": {"preset": "rloo", "shaper": "repo", "strength": 0.1, "controller": "none"}},
    {"objective": {"controller": {"target": 0.4}}},
    {"objective": {"shaper": "./mine.py:create", "its_own_option": 1}},
    {"tracker": "none", "policy": "./folder", "measure": "./m.py:create"},
    {"warm_start": {"environments": {"book": {"batches": 3}}}},
    {"warm_start": {"environments": ["book"]}},
    {"warm_start": None, "baseline": None, "measure": {}, "guards": {}},
    {"environments__rows": {"type": "rows", "train": "x.csv", "reward": ["exact", {"type": "regex", "weight": 2}]}},
    {"environments__book": {"type": "codebook", "episodes": {"group_size": 16, "cut_off": "mask"}}},
    {"environments__mine": {"type": "./m.py:create", "max_tokens": "own", "episodes": {"max_tokens": 9}}},
    {"environments__rows": {"type": "rows", "train": ["a", "b"], "categories": [1, 2], "reward": "./r.py:score"}},
]
ILL = [
    ({"objectiv": "grpo"}, "objectiv"),
    ({"objective": "grppo"}, "grppo"),
    ({"objective": {"clip_hihg": 0.3}}, "clip_hihg"),
    ({"objective": {"controller": {"tarket": 0.3}}}, "tarket"),
    ({"seed": -1}, "-1 is less than the minimum"),
    ({"step": {"groups": "many"}}, "'many' is not of type 'integer'"),
    ({"step": {"group_size": 1}}, "minimum of 2"),
    ({"curriculum__bandit": "sek"}, "curriculum.bandit: 'sek'"),
    ({"curriculum__bandit": {"type": "sek"}}, "curriculum.bandit.type: 'sek'"),
    ({"curriculum__bandit": {"type": "sec", "horizons": [3.0]}}, "horizons"),  # another bandit's
    ({"curriculum__scheduler": {"nope": 1}}, "nope"),
    ({"curriculum__stage": {"stop": "mastry"}}, "mastry"),
    ({"curriculum__mode": "flatt"}, "flatt"),
    ({"sampler": {"ahead": 2}}, "ahead"),
    ({"environments__book": {"type": "codebook", "kees": 4}}, "kees"),
    ({"environments__book": {"type": "codebook", "group_size": 4}}, "group_size"),
    ({"environments__book": {"type": "codebook", "episodes": {"group_size": 1}}}, "episodes: {'group_size': 1}"),
    ({"environments__mine": {"type": "./m.py:create", "episodes": {"groups": 4}}}, "groups"),
    ({"environments__book": {"keys": 4}}, "'type' is a required property"),
    ({"environments__rows": {"type": "rows", "reward": "exact"}}, "'train' is a required property"),
    ({"environments__rows": {"type": "rows", "train": "x", "reward": "exat"}}, "exat"),
    ({"tracker": "comet"}, "comet"),
    ({"curriculum__bandit": {"type": 3}}, "curriculum.bandit.type: 3"),
    ({"environments__book": {"type": None}}, "environments.book.type: None"),
    ({"objective": {"preset": "grpo", "kl": True}}, "True"),
    ({"seed": False}, "False is not of type 'integer'"),
    ({"checkpoint": {"every_minutes": True}}, "True is not of type 'number'"),
    ({"curriculum__stage": {"stop": [{"type": "plateau", "delta": True}]}}, "True"),
]


@pytest.mark.parametrize("fields", WELL, ids=str)
def test_short_forms_and_things_of_ones_own_fit(fields: dict[str, Any]) -> None:
    assert problems(with_fields(**fields)) == []


@pytest.mark.parametrize(("fields", "said"), ILL, ids=str)
def test_what_a_run_refuses_the_schema_refuses(fields: dict[str, Any], said: str) -> None:
    spec = with_fields(**fields)
    assert said in "\n".join(problems(spec))
    assert not loads(spec)


def test_a_spec_without_environments_is_refused() -> None:
    assert problems({"name": "x"}) == [": 'environments' is a required property"]


def test_whatever_has_a_default_or_a_meaning_shows_it_in_an_editor() -> None:
    def fields(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        if isinstance(schema, dict):
            yield from ((key, one) for key, one in schema.get("properties", {}).items() if isinstance(one, dict))
            for one in schema.values():
                yield from fields(one)

    lr = SCHEMA["$defs"]["LearnerConfig"]["properties"]["lr"]
    assert "1e-6, and 1e-4 for `tiny`" in lr["description"]
    assert SCHEMA["$defs"]["Step"]["properties"]["groups"]["description"].endswith("Default: 32")
    said = {"description", "$ref", "const", "pattern"}
    assert {key for key, one in fields(SCHEMA["$defs"]) if not said & one.keys()} <= {"type"}


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_an_example_tells_an_editor_of_the_schema(path: Path) -> None:
    key, _, place = path.read_text().splitlines()[0].partition("$schema=")
    assert key == "# yaml-language-server: "
    assert (path.parent / place).resolve() == SCHEMA_FILE
