from __future__ import annotations

import pytest
from pydantic import ValidationError

from environments import EnvironmentFault
from environments.options import ASK_FOR_BOX, ASK_FOR_TAGS
from tests.environments.rows.making import made

SYSTEM = {"role": "system", "content": "Own."}
USER = {"role": "user", "content": "1 + 1?"}
TALK = [SYSTEM, USER, {"role": "assistant", "content": "3"}, {"role": "user", "content": "Sure?"}]


def asked(folder, prompt, **options):
    environment = made(folder, [{"prompt": prompt, "answer": "2"}], **{"prompt": None, **options})
    return list(environment.task("all", 0).messages)


def test_a_text_is_put_as_a_question_and_messages_stand_as_they_are(tmp_path):
    assert asked(tmp_path, "1 + 1?") == [USER]
    assert asked(tmp_path, TALK) == TALK
    assert asked(tmp_path, [{"content": "1 + 1?", "name": None, "role": "user"}]) == [USER]


@pytest.mark.parametrize(("answer", "line"), [("tag", ASK_FOR_TAGS), ("boxed", ASK_FOR_BOX)])
def test_only_questions_in_plain_text_are_told_how_to_answer(tmp_path, answer, line):
    assert asked(tmp_path, "1 + 1?", answer=answer) == [{"role": "system", "content": line}, USER]
    assert asked(tmp_path, [USER], answer=answer) == [USER]


def test_a_system_prompt_of_the_options_comes_before_what_the_rows_bring(tmp_path):
    brief = {"role": "system", "content": "Brief."}
    assert asked(tmp_path, "1 + 1?", system="Brief.") == [brief, USER]
    assert asked(tmp_path, [USER], system="Brief.") == [brief, USER]
    assert asked(tmp_path, [USER], system="") == [USER]


def test_two_system_prompts_are_refused(tmp_path):
    with pytest.raises(EnvironmentFault, match=r"rows: its rows bring system messages of their own, .* leave out"):
        asked(tmp_path, TALK, system="Brief.")


def made_from(folder, template, row):
    environment = made(folder, [row, {"a": "good", "answer": "1"}], template=template)
    return environment.task("all", 0).messages[0]["content"], environment.left_out


def test_a_template_writes_the_question_from_the_columns(tmp_path):
    row = {"a": {"b": [1, 2]}, "answer": "1"}
    template = "{% for n in a.b %}{{ n }},{% endfor %} {{ a.b | length }}\n"
    assert made_from(tmp_path, template, row) == (
        "1,2, 2",
        ("train.jsonl:2: the template fails: 'str object' has no attribute 'b'",),
    )


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"answer": "1"}, "the template fails: 'a' is undefined"),
        ({"a": None, "answer": "1"}, "the template fails: a value in it is null"),
        ({"a": " ", "answer": "1"}, "the prompt is empty"),
    ],
)
def test_a_template_that_fails_on_a_row_breaks_it(tmp_path, row, reason):
    text, left_out = made_from(tmp_path, "{{ a }}", row)
    assert text == "good"
    assert left_out == (f"train.jsonl:1: {reason}",)


def test_a_template_can_ask_for_what_may_be_missing(tmp_path):
    row = {"answer": "1", "my column": "x"}
    assert made_from(tmp_path, '{{ a | default(row["my column"]) }}', row)[0] == "x"


def test_the_whole_row_has_its_name_beside_a_column_of_that_name(tmp_path):
    row = {"row": "a text", "if": "x", "answer": "1"}
    assert made_from(tmp_path, '{{ row["if"] }} {{ row["row"] }}', row)[0] == "x a text"


def test_columns_whose_names_end_in_blanks_are_quoted(tmp_path):
    with pytest.raises(EnvironmentFault, match=r"their columns are ' Prompt ', ' answer', k: say which by"):
        made(tmp_path, [{" Prompt ": "x", " answer": "1", "k": "2"}], prompt='row[" Prompt "]')


def test_a_template_cannot_reach_out_of_its_row(tmp_path):
    with pytest.raises(EnvironmentFault, match="access to attribute '__class__' of 'str' object is unsafe"):
        made(tmp_path, [{"a": "x", "answer": "1"}], template="{{ a.__class__.__mro__ }}")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prompt": "a", "template": "b"}, "`prompt` and `template` both say what is asked"),
        ({"template": "{{ a"}, "is neither a column path .* nor Jinja.*; a column of any other name"),
        ({"category": "{{ a }}-{{ b }}"}, r"nor Jinja.*; it is an expression by itself, so leave \{\{ and \}\} out"),
        ({"prompt": "my column"}, 'a column of any other name is row\\["its name"\\]'),
        ({"category": "a if"}, "neither a column path"),
        ({"categories": []}, "at least 1 item"),
        ({"categories": [1, "1"]}, "`categories` names one twice"),
        ({"train": []}, "at least 1 item"),
        ({"reward": "exakt"}, "Did you mean exact"),
        ({"colour": "red"}, "Extra inputs are not permitted"),
        ({"answer": "target"}, "The column of what is right is another option: `truth: target`"),
    ],
)
def test_options_that_cannot_work_are_refused_before_any_file_is_read(options, said):
    from environments import validate

    with pytest.raises(ValidationError, match=f"(?s){said}"):
        validate("rows", {"train": "not/there.jsonl", "reward": "exact", **options})
    assert validate("rows", {"train": "not/there.jsonl", "reward": "exact"})


@pytest.mark.parametrize(
    "text", ["question.strip", 'question["strip"]', '"Q: " ~ question.strip', "[question.strip][0]"]
)
def test_a_method_that_is_not_called_is_no_text(tmp_path, text):
    rows = [{"question": " 1? ", "answer": "1"}]
    for options in ({"template": f"{{{{ {text} }}}}"}, {"prompt": text + " | string"}):
        said = r"fails: .*the method strip is not called: write strip\(\)"
        with pytest.raises(EnvironmentFault, match=f"(?s){said}"):
            made(tmp_path, rows, **options)
    assert (
        asked_for(tmp_path, rows, template="{{ question.strip() }} {{ '%s' | format(row['question'].strip()) }}")
        == "1? 1?"
    )


def test_what_a_filter_gives_one_after_the_other_is_a_list(tmp_path):
    rows = [{"tags": ["a", "b"], "answer": "1"}]
    template = "{{ tags | map('upper') }} {{ tags | reverse }} {{ tags | select('eq', 'a') ~ '' }}"
    assert asked_for(tmp_path, rows, template=template) == "['A', 'B'] ['b', 'a'] ['a']"


def test_nothing_is_drawn_at_random(tmp_path):
    with pytest.raises(ValidationError, match="No filter named 'random'"):
        made(tmp_path, [], prompt="tags | random")


def asked_for(folder, rows, **options):
    return made(folder, rows, **options).task("all", 0).messages[0]["content"]
