from __future__ import annotations

import json
import re
from datetime import date
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from environments import EnvironmentFault
from environments.contracts import canonical, key_of
from environments.tables import text_rows
from environments.tables.row_file import LISTED
from tests.environments.rows.making import made, make, questions, sums, write_jsonl, write_parquet

GOOD = {"question": "1 + 1?", "answer": "2", "level": 1}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not valid JSON: .* at character 2"),
        ('{"question": "a", "answer": NaN}', "not valid JSON: NaN is not JSON; write null"),
        ('{"question": "a", "answer": -Infinity}', "not valid JSON: -Infinity"),
        ('{"question": "a"} {"answer": "b"}', "not valid JSON: more than one value"),
        ("[" * 100_000, "not valid JSON: nested too deeply"),
        ('{"n": ' + "1" * 5000 + "}", "not valid JSON: Exceeds the limit"),
        ('["a", "b"]', "not an object: expected .* found a list"),
        ("null", "not an object: expected .* found null"),
        ({"answer": "2", "level": 1}, "`prompt`: nothing at 'question': the columns are answer, level"),
        (
            {"qestion": "a", "answer": "2", "level": 1},
            r"`prompt`: nothing at 'question': did you mean 'qestion'\? the columns are qestion, answer, level",
        ),
        ({**GOOD, "question": " \n"}, "the prompt is empty"),
        ({**GOOD, "question": None}, "the prompt is no conversation: expected .* found null"),
        ({**GOOD, "question": 7}, "the prompt is no conversation: expected .* found a number"),
        ({**GOOD, "question": {"role": "user"}}, "the prompt is no conversation: .* found an object"),
        ({**GOOD, "question": []}, "the prompt is empty: a list without messages"),
        ({**GOOD, "question": ["hello"]}, "the prompt is no conversation: expected role and content"),
        (
            {**GOOD, "question": [{"role": "user"}]},
            "the prompt is no conversation: expected role and content",
        ),
        (
            {**GOOD, "question": [{"role": "tool", "content": "x"}]},
            "a message of another role: 'tool' is not one of",
        ),
        (
            {**GOOD, "question": [{"role": "user", "content": [{"type": "image"}]}]},
            "a message that is no text: its content is a list",
        ),
        ({**GOOD, "question": [{"role": "user", "content": " "}]}, "the prompt is empty"),
        (
            {**GOOD, "question": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]},
            "the prompt does not end with the user's message: the last is the assistant's",
        ),
        ('{"question": "\\ud800", "answer": "2", "level": 1}', "half a character"),
        ({"question": "a", "level": 1}, "`truth`: nothing at 'answer'"),
        ({**GOOD, "answer": None}, "the truth is missing"),
        ({**GOOD, "answer": {"no": "text"}}, "the truth is refused: expected a text"),
        ({"question": "a", "answer": "b"}, "`category`: nothing at 'level'"),
        ({**GOOD, "level": None}, "the category is no name: found None"),
        ({**GOOD, "level": [1]}, r"the category is no name: found \[1\]"),
        ({**GOOD, "level": ""}, "the category is empty"),
        ({**GOOD, "level": "x" * 101}, "the category's name is longer than 100 characters"),
        ({**GOOD, "level": 10**100}, "the category's name is longer than 100 characters"),
        ({**GOOD, "level": 1e300}, "the category's name is longer than 100 characters"),
        ({**GOOD, "level": "a\nb"}, "the category's name cannot be printed"),
    ],
)
def test_a_broken_row_is_left_out_and_told_with_file_line_and_reason(tmp_path, line, reason):
    environment = made(tmp_path, [GOOD, "", line, {**GOOD, "question": "2 + 0?"}], category="level")
    assert questions(environment, "1") == ["1 + 1?", "2 + 0?"]
    (told,) = environment.left_out
    assert told.startswith("train.jsonl:3: ")
    assert re.search(reason, told)
    assert len(told) < 300
    assert environment.num_left_out == 1


@pytest.mark.parametrize(
    ("truth", "reward"),
    [
        ("ab\ud83d", "exact"),
        (["ab", "\ude00"], "exact"),
        ({"pattern": {"\ud83d": 1}}, "./mine.py:any_truth"),
    ],
)
def test_half_a_character_in_a_truth_or_a_reference_is_told_by_row(tmp_path, truth, reward):
    (tmp_path / "mine.py").write_text("def any_truth(attempt):\n    return 1.0\n")
    rows = [
        {**GOOD, "reply": "\U0001f600"},
        *({**GOOD, "question": f"{n}?", "reply": "2"} for n in range(2)),
        {**GOOD, "answer": truth, "reply": "2"},
        {**GOOD, "reply": "ab\ud83d"},
    ]
    environment = made(tmp_path, map(json.dumps, rows), reward=reward, reference="reply")
    assert environment.left_out == (
        "train.jsonl:4: half a character in the truth: a lone surrogate, which no file can hold",
        "train.jsonl:5: half a character in the reference: a lone surrogate, which no file can hold",
    )
    assert environment.task("all", 0).answer == "\U0001f600"


ARC = {"question": "1?", "answer": "B", "choices": {"text": ["two", "one"], "label": ["A", "B"]}}


@pytest.mark.parametrize(
    ("choices", "reason"),
    [
        (None, "expected a list or a map of options at 'choices', found None"),
        ({"text": ["two"], "label": ["A", "B"]}, "expected as many labels as texts in the options"),
        ({"text": ["two", "one"], "label": ["1", "1"]}, "expected the letters ABCDEFGHIJ as labels.*found '1'"),
        ({"text": ["two", "one"], "label": ["A", "2"]}, "expected the letters ABCDEFGHIJ as labels.*found '2'"),
        ({"texts": ["two", "one"]}, "expected the letters ABCDEFGHIJ as labels.*found 'texts'"),
    ],
)
@pytest.mark.parametrize("in_a_list", [False, True])
def test_options_of_a_choice_are_looked_at_in_every_row(tmp_path, choices, reason, in_a_list):
    reward = {"type": "choice", "options": "choices"}
    environment = made(tmp_path, [ARC, {**ARC, "choices": choices}], reward=[reward] if in_a_list else reward)
    (told,) = environment.left_out
    named = "choice: " if in_a_list else ""
    assert re.search(f"train.jsonl:2: the reward refuses the row: {named}{reason}", told)
    assert environment.score(environment.task("all", 0), "One").value == 1.0


@pytest.mark.parametrize("in_a_list", [False, True])
def test_rows_whose_options_are_numbered_are_used_beside_those_with_letters(tmp_path, in_a_list):
    numbered = {"question": "2?", "answer": "1", "choices": {"text": ["one", "two"], "label": ["1", "2"]}}
    reward = {"type": "choice", "options": "choices"}
    environment = made(tmp_path, [ARC, numbered], reward=[reward] if in_a_list else reward)
    assert environment.left_out == ()
    task = environment.task("all", 1)
    assert (task.answer, task.data["truth"]) == ("A", "A")
    assert [environment.score(task, said).value for said in ("A", "one", "1", "B", "2")] == [1, 1, 1, 0, 0]


@pytest.mark.parametrize("write", [write_jsonl, write_parquet])
def test_a_column_of_options_that_is_not_there_is_refused_with_the_nearest(tmp_path, write):
    write(tmp_path / "rows", [ARC])
    missing = r"`options`: nothing at 'choicez': did you mean 'choices'\? the columns are question, answer, choices"
    with pytest.raises(EnvironmentFault, match=f"(?s)its one row cannot be used.*the row: 1 row .*{missing}"):
        make(tmp_path, train="rows", reward={"type": "choice", "options": "choicez"})
    with pytest.raises(EnvironmentFault, match=r"did you mean 'choices\.text'\?"):
        make(tmp_path, train="rows", reward={"type": "choice", "options": "choices.tex"})


def test_bytes_that_are_no_text_break_only_their_row(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"question": "\xff", "answer": "1"}\n{"question": "b", "answer": "1"}')
    environment = make(tmp_path, train="a.jsonl")
    assert questions(environment) == ["b"]
    assert "a.jsonl:1: not valid UTF-8" in environment.left_out[0]


def test_a_line_that_never_ends_is_not_read_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(text_rows, "LONGEST_LINE", 2**10)
    rows = [GOOD, {**GOOD, "question": "x" * 5000}, {**GOOD, "question": "after"}]
    environment = made(tmp_path, rows)
    assert questions(environment) == ["1 + 1?", "after"]
    assert environment.left_out[0].startswith("train.jsonl:2: a line longer than")


@pytest.mark.parametrize(
    ("text", "left", "told"),
    [
        ("q,a\n1,2\n1\n3,4\n", ["1", "3"], "a.csv:3: another number of fields: 1 instead of 2"),
        ("q,a\n1,2,3\n3,4\n", ["3"], "a.csv:2: another number of fields: 3 instead of 2"),
        ('q,a\n"1\n2",2,\n3,4\n', ["3"], "a.csv:2: another number of fields"),
        ('q,a\n"1\n2",2\n3\n', ["1\n2"], "a.csv:4: another number of fields"),
        ('q,a\n1,2\n"x"y,4\n5,6\n', ["1", "5"], "a.csv:3: not valid CSV"),
        ('q,a\n1,2\n"never closed,4\n5,6\n', ["1"], "a.csv:3: not valid CSV: unexpected end of data"),
        ("q,a\n1,\n3,4\n", ["3"], "a.csv:2: the truth is"),
        ("q,a\n\n1,2\n\n3,\n", ["1"], "a.csv:5: the truth is"),
        (f"q,a\n{'x' * 140_000},2\n3,4\n", ["3"], "a.csv:2: not valid CSV: field larger than field limit"),
    ],
)
def test_a_broken_row_of_csv_is_told(tmp_path, text, left, told):
    (tmp_path / "a.csv").write_text(text, newline="")
    environment = make(tmp_path, train="a.csv", prompt="q", truth="a if a else none")
    assert questions(environment) == left
    assert environment.left_out[0].startswith(told)
    assert environment.num_left_out == 1


def test_bytes_that_are_no_text_break_only_their_row_of_csv(tmp_path):
    (tmp_path / "a.csv").write_bytes(b'question,answer\n\xff,1\n"b\n\xff",1\nc,3\n')
    environment = make(tmp_path, train="a.csv")
    assert questions(environment) == ["c"]
    assert all("not valid UTF-8" in line or "CSV" in line for line in environment.left_out)


def test_bytes_that_are_no_text_break_only_their_row_of_parquet(tmp_path):
    binary = pa.array([b"first", b"\xff\xfe", b"third"], pa.binary())
    bad = pa.Array.from_buffers(pa.string(), 3, binary.buffers())
    pq.write_table(pa.table({"question": bad, "answer": ["1", "2", "3"]}), tmp_path / "a.parquet")
    environment = make(tmp_path, train="a.parquet")
    assert questions(environment) == ["first", "third"]
    assert environment.left_out[0].startswith("a.parquet:2: a value cannot be read")


def test_mixed_types_and_nested_nulls_of_parquet_are_told_by_row(tmp_path):
    rows = [
        {"question": "a", "meta": {"truth": "1"}},
        {"question": None, "meta": {"truth": "1"}},
        {"question": "c", "meta": {"truth": None}},
        {"question": "d", "meta": None},
    ]
    environment = make(tmp_path, train=str(write_parquet(tmp_path / "a.parquet", rows)), truth="meta.truth")
    assert questions(environment) == ["a"]
    assert [line.partition("a.parquet:")[2][:1] for line in environment.left_out] == ["2", "3", "4"]


def test_dates_are_told_with_what_makes_a_text_of_them(tmp_path):
    rows = [{"question": "a", "answer": date(2020, 1, 1)}]
    write_parquet(tmp_path / "a.parquet", rows)
    reason = r"the truth is no plain data: 1 row \(a\.parquet:1: found datetime.*`truth: COLUMN \| string` makes a text"
    with pytest.raises(EnvironmentFault, match=reason):
        make(tmp_path, train="a.parquet")
    environment = make(tmp_path, train="a.parquet", truth="answer | string")
    assert environment.task("all", 0).data["truth"] == "2020-01-01"
    with pytest.raises(EnvironmentFault, match=r"the category is no name.*`category: COLUMN \| string` makes a text"):
        make(tmp_path, train="a.parquet", truth="question", category="answer")


def test_decimal_columns_are_truths_with_all_their_digits(tmp_path):
    rows = [{"question": str(k), "answer": Decimal(f"{k}.880")} for k in range(20)]
    environment = make(tmp_path, train=str(write_parquet(tmp_path / "a.parquet", rows)), reward="numeric")
    task = environment.task("all", 3)
    assert task.data["truth"] == "3.880"
    assert (environment.score(task, "3.88").value, environment.score(task, "3.8").value) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"truth": "10 ** (5000 * (answer % 2))"}, "the truth is no plain data: found int too large to be shown"),
        ({"category": "10 ** (5000 * (answer % 2))"}, "the category is no name: found int too large to be shown"),
        ({"reference": "10 ** (5000 * (answer % 2))"}, "the reference is no text: found int too large to be shown"),
        ({"truth": "deep if answer else 'a'"}, r"the truth is no plain data: found (\[{70}|list too large)"),
    ],
)
def test_numbers_and_lists_without_end_break_only_their_row(tmp_path, options, reason):
    deep = "[" * 900 + "]" * 900
    rows = [f'{{"question": "{n}?", "answer": {n}, "deep": {deep}}}' for n in range(2)]
    environment = made(tmp_path, rows, reward={"type": "regex", "pattern": "1"}, **options)
    (told,) = environment.left_out
    assert re.search(f"train.jsonl:2: {reason}", told)
    assert environment.num_left_out == 1


def test_a_row_too_deep_to_be_sent_to_a_process_is_left_out_where_a_reward_reads_rows(tmp_path):
    (tmp_path / "mine.py").write_text("def any_truth(attempt):\n    return 1.0\n")
    rows = [GOOD, f'{{"question": "2?", "answer": "2", "meta": {"[" * 900 + "]" * 900}}}']
    assert made(tmp_path, rows).left_out == ()
    (told,) = made(tmp_path, rows, reward="./mine.py:any_truth").left_out
    assert told == "train.jsonl:2: a column is nested too deeply: 'meta', deeper than 100"


def test_where_no_row_can_be_used_the_commonest_reasons_are_said(tmp_path):
    with pytest.raises(EnvironmentFault) as fault:
        made(tmp_path, [{**GOOD, "answer": None}, *["{"] * 30])
    assert "none of its 31 rows can be used" in str(fault.value)
    assert [line.split(" (")[0] for line in str(fault.value).split("\n  ")[1:]] == [
        "not valid JSON: 30 rows",
        "the truth is missing: 1 row",
    ]


def test_reasons_are_counted_the_rarest_first_however_late_it_comes(tmp_path):
    rows = [*["{"] * (LISTED + 5), {**GOOD, "level": ""}, *[{**GOOD, "answer": None}] * 2, GOOD]
    environment = made(tmp_path, rows, category="level")
    assert [(flaw.kind, flaw.num_rows) for flaw in environment.flaws] == [
        ("the category is empty", 1),
        ("the truth is missing", 2),
        ("not valid JSON", LISTED + 5),
    ]
    assert [str(flaw) for flaw in environment.flaws][:2] == [
        f"the category is empty: 1 row (train.jsonl:{LISTED + 6})",
        f"the truth is missing: 2 rows (first: train.jsonl:{LISTED + 7})",
    ]
    assert "rows (first: train.jsonl:1: Expecting property" in str(environment.flaws[2])


@pytest.mark.parametrize(
    ("training", "held_out", "said"),
    [
        (
            sums(5),
            [{"question": "a"}] * 615,
            "none of its 615 rows held out can be used;.*nothing at 'answer': 615 rows",
        ),
        (
            sums(5),
            [{"question": "a", "answer": "1", "level": 9}],
            "its one row held out cannot be used;.*does not name: one row",
        ),
        (sums(5), [], "its files held out hold no rows: test.jsonl"),
        ([], sums(5), "its files to train on hold no rows: train.jsonl"),
        ([{"question": "a"}] * 4, sums(5), "none of its 4 rows to train on can be used;.*train.jsonl:1"),
    ],
)
def test_a_file_that_is_lost_as_a_whole_is_refused(tmp_path, training, held_out, said):
    write_jsonl(tmp_path / "train.jsonl", [{"level": 1, **row} for row in training])
    write_jsonl(tmp_path / "test.jsonl", [{"level": 1, **row} for row in held_out])
    with pytest.raises(EnvironmentFault, match=f"(?s)environment rows: {said}"):
        make(tmp_path, holdout="test.jsonl", category="level", categories=["1"])


def test_a_file_that_is_held_out_as_a_whole_is_evaluated_broken_rows_or_not(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", [*sums(3), *["{"] * 3])
    environment = make(tmp_path, holdout="train.jsonl")
    assert [category.trainable for category in environment.categories] == [False]
    assert environment.num_left_out == 6


def test_strict_refuses_broken_rows_and_names_them(tmp_path):
    rows = [GOOD, "{", {**GOOD, "answer": None}]
    with pytest.raises(
        EnvironmentFault,
        match=r"(?s)`strict` refuses.* 2 rows.*\n  not valid JSON: 1 row .*\n  the truth is missing",
    ):
        made(tmp_path, rows, strict=True)
    assert made(tmp_path, [GOOD], strict=True).size("all") == 1


def test_beyond_a_thousand_broken_rows_are_counted_by_reason(tmp_path):
    broken = ["{" if i % 3 else {**GOOD, "answer": None} for i in range(LISTED + 299)]
    environment = made(tmp_path, [*broken, GOOD])
    told = environment.left_out
    assert len(told) == LISTED + 2
    assert environment.num_left_out == LISTED + 299
    assert told[-2:] == ("200 more: not valid JSON", "99 more: the truth is missing")
    assert told[LISTED - 1].startswith(f"train.jsonl:{LISTED}: ")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "question": st.text(max_size=5) | st.none() | st.integers(),
                "answer": st.text(max_size=5) | st.none() | st.lists(st.text(max_size=2), max_size=2),
                "level": st.text(max_size=3) | st.integers(0, 3) | st.floats() | st.booleans() | st.none(),
            },
        )
        | st.just("{"),
        max_size=12,
    )
)
def test_every_row_is_either_a_task_or_told(tmp_path, rows):
    lines_ = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    environment = made(tmp_path, [*lines_, {**GOOD, "level": "sure"}], category="level")
    num_tasks = sum(environment.size(category.name) or 0 for category in environment.categories)
    assert num_tasks + environment.num_left_out == len(rows) + 1
    again = make(tmp_path, category="level")
    assert [c.name for c in again.categories] == [c.name for c in environment.categories]
    for category in environment.categories:
        for index in range(environment.size(category.name) or 0):
            assert again.task(category.name, index).key == environment.task(category.name, index).key


def test_rows_that_changed_under_the_environment_end_in_words(tmp_path):
    environment = made(tmp_path, sums(3))
    (tmp_path / "train.jsonl").write_text("{" * 500)
    with pytest.raises(EnvironmentFault, match=r"a row of train\.jsonl could be read and no longer can"):
        environment.task("all", 1)


def test_a_row_that_asks_something_else_than_before_ends_in_words(tmp_path):
    environment, file = made(tmp_path, sums(3)), tmp_path / "train.jsonl"
    asked = environment.task("all", 1).messages[0]["content"]
    with file.open("r+b") as opened:  # in place, so that the rows stand where they stood
        changed = opened.read().replace(asked.encode(), asked.replace("1", "7").encode())
        opened.seek(0)
        opened.write(changed)
    with pytest.raises(EnvironmentFault, match=r"train\.jsonl:2 asks something else than when the file was gone"):
        environment.task("all", 1)
    assert environment.task("all", 0).key == key_of(canonical(environment.task("all", 0).messages))


def test_a_path_that_is_right_is_told_to_end_at_null(tmp_path):
    rows = [{"question": "1 + 1?", "answer": {"value": "2"}}, {"question": "2 + 2?", "answer": None}]
    (told,) = made(tmp_path, rows, truth="answer.value").left_out
    assert told.endswith("`truth`: nothing at 'answer.value': 'answer' is null")


def test_of_a_path_that_begins_right_the_next_keys_are_told(tmp_path):
    rows = [
        {"question": "1 + 1?", "answer": {"value": "2"}},
        {"question": "2 + 2?", "answer": {"text": {"a": 1}, "b": 1}},
    ]
    (told,) = made(tmp_path, rows, truth="answer.value").left_out
    assert told.endswith("nothing at 'answer.value': did you mean 'answer.b'? 'answer' has text, b")
