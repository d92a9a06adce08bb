import socket

import pytest

from environments.rewards import make_reward
from tests.environments.rewards.scoring import judge, worth

pytest.importorskip("jsonschema")

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
}
PARTIAL = {"type": "json_schema", "format_value": 0.2}


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ('{"name": "Ada", "age": 36}', 1.0),
        ('\n {"name": "Ada"} ', 1.0),
        ('```json\n{"name": "Ada"}\n```', 1.0),
        ('Here:\n```json\n[]\n```\nno, here:\n```\n{"name": "Ada"}\n```\n', 1.0),
        ('```json\n{"name": "Ada"}', 1.0),
        ('{"age": 36}', 0.2),
        ('{"name": "Ada", "age": -1}', 0.2),
        ("[]", 0.2),
        ('{"name": "Ada"} and more', 0.0),
        ('```yaml\n{"name": "Ada"}\n```', 0.0),
        ('{"name": NaN}', 0.0),
        ("", 0.0),
        ("{'name': 'Ada'}", 0.0),
        ("[" * 50_000, 0.0),
        ('{"name": ' + "1" * 10_000 + "}", 0.0),
        ("\ud800", 0.0),
    ],
)
def test_worked_cases(answer, value):
    score = judge(PARTIAL, answer, PERSON)
    assert score.value == value
    assert score.correct is (value == 1.0)


def test_the_schema_may_be_text_or_the_same_for_all_rows():
    assert worth("json_schema", "3", '{"type": "integer"}') == 1.0
    assert worth({"type": "json_schema", "schema": {"type": "integer"}}, "3", None) == 1.0
    assert worth({"type": "json_schema", "schema": {"type": "integer"}}, '"3"', None) == 0.0


def test_a_schema_of_an_older_draft_is_read_as_such():
    older = {"$schema": "http://json-schema.org/draft-04/schema#", "maximum": 3, "exclusiveMaximum": True}
    assert (worth("json_schema", "2", older), worth("json_schema", "3", older)) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        ({"type": "nonsense"}, "is not one"),
        ("{", "is not JSON"),
        ("[]", "expected a JSON schema, a map"),
        (3, "found 3"),
        ({"$ref": "http://localhost:1/schema.json"}, "nothing is fetched"),
        ({"items": {"$ref": "other.json#/a"}}, "nothing is fetched"),
        ({"$ref": "#/definitions/nope"}, "refers to #/definitions/nope, which is not there"),
        ({"properties": {"a": {"$ref": "#nope"}}}, "refers to #nope"),
        ({"$dynamicRef": "#nope"}, "refers to #nope"),
        ({"$ref": "#/other", "other": {"not": {"$ref": "#/nope"}}}, "refers to #/nope"),
        ({"$ref": "#/allOf/x", "allOf": [True]}, "refers to #/allOf/x"),
        ({"$ref": "#/title/a/b", "title": "t"}, "refers to #/title"),
        ({"$ref": "#/title", "title": "t"}, "refers to #/title"),
        ({"$ref": "http://[a#/b"}, r"refers to http://\[a"),
        ({"$id": "http://x.test/a", "$ref": "a#/nope"}, "refers to a#/nope"),
        ({"$schema": "http://json-schema.org/draft-04/schema#", "items": {"$ref": "#/nope"}}, "refers to #/nope"),
        ('{"not":' * 5000 + "true" + "}" * 5000, "nested too deeply"),
    ],
)
def test_what_is_no_schema_is_refused(truth, message):
    with pytest.raises(ValueError, match=message):
        make_reward("json_schema").check(truth)


def test_references_inside_are_followed_and_nothing_is_fetched(monkeypatch):
    monkeypatch.setattr(socket, "socket", None)  # any use of the network would raise
    inside = {"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}}
    assert (worth("json_schema", "3", inside), worth("json_schema", '"a"', inside)) == (1.0, 0.0)
    draft = {"$ref": "https://json-schema.org/draft/2020-12/schema"}
    assert (
        worth("json_schema", '{"type": "integer"}', draft),
        worth("json_schema", '{"type": 3}', draft),
    ) == (1.0, 0.0)
    named = {"$id": "http://x.test/a", "$ref": "a#/$defs/n", "$defs": {"n": {"type": "integer"}}}
    assert worth("json_schema", "3", named) == 1.0
    based = {"$ref": "http://x.test/b", "$defs": {"a": {"$id": "http://x.test/b", "items": {"$ref": "#/$defs/n"}}}}
    based["$defs"]["a"]["$defs"] = inside["$defs"]
    assert (worth("json_schema", "[3]", based), worth("json_schema", '["a"]', based)) == (1.0, 0.0)
    tree = {"properties": {"$ref": {"enum": [{"$ref": "#/nope"}]}, "next": {"$ref": "#"}}}
    assert worth("json_schema", '{"next": {"$ref": {"$ref": "#/nope"}}}', tree) == 1.0


@pytest.mark.parametrize("answer", ["1e400", "-1e400", "[1E+999]", "```json\n1e400\n```"])
def test_a_number_beyond_a_float_is_no_answer(answer):
    assert judge({**PARTIAL, "schema": {}}, answer).value == 0.0
    assert judge({**PARTIAL, "schema": {"multipleOf": 0.5}}, answer).value == 0.0


def test_a_whole_number_may_be_longer_unless_it_is_to_be_divided():
    assert worth("json_schema", "1" * 400, {"type": "integer"}) == 1.0
    assert judge(PARTIAL, "1" * 400, {"multipleOf": 0.5}).value == 0.0
