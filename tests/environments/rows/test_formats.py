from __future__ import annotations

import bz2
import csv
import json
import lzma
import os
import re
import sys
from pathlib import Path
from weakref import WeakSet

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from environments import EnvironmentFault
from environments.tables.csv_rows import Csv
from environments.tables.row_file import InvalidRow
from environments.tables.text_rows import JsonLines
from tests.environments.rows.making import made, make, questions, sums, write_csv, write_jsonl, write_parquet

DATA = Path(__file__).parents[2] / "data"
FLAT = [{"question": row["question"], "answer": row["answer"]} for row in sums(5)]
ASKED = [row["question"] for row in FLAT]


def write_arrow(path: Path, rows, file_format: bool = False) -> Path:
    table = pa.Table.from_pylist(rows)
    new = pa.ipc.new_file if file_format else pa.ipc.new_stream
    with pa.OSFile(str(path), "wb") as sink, new(sink, table.schema) as writer:
        writer.write_table(table)
    return path


def write_tsv(path: Path, rows) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)
    return path


WRITERS = {
    "rows.jsonl": write_jsonl,
    "rows.ndjson": write_jsonl,
    "rows.JSONL": write_jsonl,
    "rows.json": write_jsonl,
    "rows": write_jsonl,
    "rows.csv": write_csv,
    "rows.tsv": write_tsv,
    "rows.parquet": write_parquet,
    "rows.pq": write_parquet,
    "rows.arrow": write_arrow,
    "rows.feather": lambda path, rows: write_arrow(path, rows, file_format=True),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_holds_the_same_rows(tmp_path, name):
    WRITERS[name](tmp_path / name, FLAT)
    environment = make(tmp_path, train=name)
    assert questions(environment) == ASKED
    assert [environment.task("all", i).data["truth"] for i in range(5)] == [row["answer"] for row in FLAT]
    assert [environment.task("all", i).key for i in (4, 1)] == [made(tmp_path, FLAT).task("all", i).key for i in (4, 1)]


@pytest.mark.skipif(sys.platform != "linux", reason="counts the open files of a process")
@pytest.mark.parametrize("suffix", ["jsonl", "csv", "arrow"])
def test_many_shards_keep_few_files_open(tmp_path, monkeypatch, suffix):
    def num_open():
        return len(os.listdir("/proc/self/fd"))

    monkeypatch.setattr("environments.tables.text_rows._KEPT_OPEN", WeakSet())
    monkeypatch.setattr("environments.tables.text_rows.MOST_OPEN", 3)
    names = [f"{i}.{suffix}" for i in range(20)]
    for name in names:
        WRITERS[f"rows.{suffix}"](tmp_path / name, [{"question": f"{name}?", "answer": "1"}])
    before = num_open()
    environment = make(tmp_path, train=names)
    assert questions(environment) == [f"{name}?" for name in names]
    assert num_open() <= before + 3
    if suffix != "arrow":  # which stays mapped
        (tmp_path / names[-1]).unlink()
        with pytest.raises(
            EnvironmentFault, match=f"a row of {names[-1]} could be read and no longer can .*No such file"
        ):
            environment.task("all", 19)


def test_files_follow_each_other_in_the_order_given(tmp_path):
    write_jsonl(tmp_path / "b.jsonl", FLAT[3:])
    write_csv(tmp_path / "a.csv", FLAT[:3])
    assert questions(make(tmp_path, train=["b.jsonl", "a.csv"])) == ASKED[3:] + ASKED[:3]


@pytest.mark.parametrize("place", [".", "data"])
def test_a_folder_as_the_hub_has_it_is_read_by_split(tmp_path, place):
    folder = tmp_path / "set" / place
    folder.mkdir(parents=True)
    (tmp_path / "set" / "README.md").write_text("# a card")
    write_parquet(folder / "train-00001-of-00002.parquet", FLAT[2:4])
    write_parquet(folder / "train-00000-of-00002-9ab1.parquet", FLAT[:2])
    write_parquet(folder / "test-00000-of-00001.parquet", FLAT[4:])
    assert questions(make(tmp_path, train="set")) == ASKED[:4]
    assert questions(make(tmp_path, train="set", split="test")) == ASKED[4:]
    both = make(tmp_path, train="set", holdout="set")
    assert questions(both) == ASKED
    assert both.pool(both.task("all", 4)) in ("anchor", "select")


@pytest.mark.parametrize("rest", ["", "-9ab1"])
def test_shards_that_others_count_and_that_are_not_there_are_told(tmp_path, rest):
    (tmp_path / "rows").mkdir()
    for i in (0, 2):
        write_parquet(tmp_path / "rows" / f"train-{i:05}-of-00003{rest}.parquet", FLAT[:2])
    told = make(tmp_path, train="rows").remarks[0]
    assert told == "train: rows lacks train-00001-of-00003: was it copied as a whole?"


def test_a_folder_whose_names_tell_of_no_splits_is_read_whole_in_the_order_of_names(tmp_path):
    (tmp_path / "set").mkdir()
    write_jsonl(tmp_path / "set" / "part-2.jsonl", FLAT[3:])
    write_jsonl(tmp_path / "set" / "part-1.jsonl", FLAT[:3])
    assert questions(make(tmp_path, train="set")) == ASKED


@pytest.mark.parametrize(
    "names",
    [
        ["gsm_train.jsonl", "gsm_test.jsonl"],
        ["train-0-of-1.jsonl", "test-0-of-1.jsonl"],
        ["eval.Train.jsonl", "train-then-test.jsonl"],  # the last word says it
    ],
)
def test_a_split_is_known_by_a_word_of_its_files_names(tmp_path, names):
    (tmp_path / "set").mkdir()
    for name, rows in zip(names, (FLAT[:3], FLAT[3:]), strict=True):
        write_jsonl(tmp_path / "set" / name, rows)
    assert questions(make(tmp_path, train="set")) == ASKED[:3]
    both = make(tmp_path, train="set", holdout="set")
    assert questions(both) == ASKED
    assert both.remarks == ()
    with pytest.raises(EnvironmentFault, match="the folder set has no split 'dev'; it has: test, train"):
        make(tmp_path, train="set", split="dev")


def test_table_files_of_a_folder_that_are_passed_over_are_told(tmp_path):
    (tmp_path / "set").mkdir()
    for name in ("part-0.jsonl", "part-1.json", "part-2.jsonl.gz", "part-3.jsonl", "test.json"):
        write_jsonl(tmp_path / "set" / name, FLAT[:3])
    for name in ("README.md", "dataset_infos.json", ".hidden.json"):
        (tmp_path / "set" / name).write_text("{}")
    said = "train: reads part-0.jsonl, part-3.jsonl of set; passed over: part-1.json, part-2.jsonl.gz"
    assert make(tmp_path, train="set").remarks[0] == said


def test_files_without_a_split_beside_splits_are_passed_over_and_told(tmp_path):
    (tmp_path / "set").mkdir()
    for name in ("train", "train_2", "test", "extra", *(f"x{n}" for n in range(7))):
        write_jsonl(tmp_path / "set" / f"{name}.jsonl", sums(2, start=100 * len(name)))
    assert [line.replace(".jsonl", "") for line in make(tmp_path, train="set", holdout="set").remarks] == [
        "train: reads train of set; passed over: extra, train_2, x0, x1, x2, x3 and 3 more",
        "holdout: reads test of set; passed over: extra, x0, x1, x2, x3, x4 and 2 more",
    ]


def test_what_the_datasets_library_saved_is_read():
    environment = make(DATA, train="datasets/sums", holdout="datasets/sums", category="meta.level")
    assert [(c.name, environment.size(c.name)) for c in environment.categories] == [("1", 8), ("2", 8)]
    assert environment.task("2", 0).messages[0]["content"] == "How many is 1 + 1?"
    assert environment.task("1", 6).data["truth"] == "100"
    one_split = make(DATA, train="datasets/sums/test")
    assert questions(one_split)[0] == "How many is 0 + 100?"


def test_nested_columns_of_parquet_are_read_like_those_of_json(tmp_path):
    rows = [
        {
            "prompt": [{"content": f"{i}?", "role": "user", "name": None}],
            "reward_model": {"ground_truth": str(i), "style": "rule"},
            "extra_info": {"levels": [{"n": i % 3}, None]},
        }
        for i in range(9)
    ]
    write_parquet(tmp_path / "rows.parquet", rows, row_group_size=4)
    write_jsonl(tmp_path / "rows.jsonl", rows)
    by_format = [
        make(tmp_path, train=f"rows.{suffix}", prompt="prompt", category="extra_info.levels.0.n")
        for suffix in ("parquet", "jsonl")
    ]
    for environment in by_format:
        assert [c.name for c in environment.categories] == ["0", "1", "2"]
    first, second = ([e.task("2", i) for i in range(3)] for e in by_format)
    assert [(t.key, t.messages, t.data) for t in first] == [(t.key, t.messages, t.data) for t in second]


def test_marks_line_ends_and_blank_lines_do_not_matter(tmp_path):
    lines = [json.dumps(row) for row in FLAT]
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + "\r\n\r\n".join(lines).encode() + b"\r\n\n")
    assert questions(make(tmp_path, train="a.jsonl")) == ASKED
    (tmp_path / "a.csv").write_bytes(
        b"\xef\xbb\xbfquestion,answer\r\n" + b"".join(f"{r['question']},{r['answer']}\r\n".encode() for r in FLAT)
    )
    assert questions(make(tmp_path, train="a.csv")) == ASKED


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_csv_may_be_separated_by_another_character(tmp_path, delimiter):
    header, *lines = [["question", "answer"], *([row["question"], row["answer"]] for row in FLAT)]
    (tmp_path / "a.csv").write_text("\n".join(delimiter.join(map(str, line)) for line in [header, *lines]))
    environment = make(tmp_path, train="a.csv", delimiter=delimiter)
    assert questions(environment) == ASKED
    plain = make(tmp_path, train=write_csv(tmp_path / "b.csv", FLAT).name)
    assert environment.version != plain.version


def test_a_delimiter_is_one_of_four(tmp_path):
    with pytest.raises(ValidationError, match=r"fields are separated by one of ',', ';', '\\t', '\|', not ':'"):
        make(tmp_path, train="a.csv", delimiter=":")


def test_a_row_of_csv_may_span_lines(tmp_path):
    rows = [{"question": f'a "quoted", {i}\r\nsecond line\n', "answer": "1"} for i in range(4)]
    write_csv(tmp_path / "a.csv", rows)
    assert questions(make(tmp_path, train="a.csv")) == [row["question"] for row in rows]


def quoted(tmp_path, opening, closing=None, num=60, columns=("question", "answer")):
    """A file of rows in one of which a quote opens, and in a later one closes, or in none."""
    lines = [",".join(columns), *(",".join([f"what is {i}?", *["1"] * (len(columns) - 1)]) for i in range(num))]
    lines[opening] = '"' + lines[opening]
    if closing is not None:
        lines[closing] = lines[closing].replace("?", '?"', 1)
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    return make(tmp_path, train="a.csv")


@pytest.mark.parametrize("columns", [("question", "answer"), ("question", "answer", "level")])
def test_rows_that_a_quote_has_run_together_are_warned_of(tmp_path, columns):
    environment = quoted(tmp_path, 10, 40, columns=columns)
    (warning,) = environment.warnings
    assert (
        "a.csv has a row that holds what look like rows of their own, the first in lines 11 to 41: a quote" in warning
    )
    assert len(questions(environment)) == 30


def test_a_quote_that_never_closes_is_told_with_the_lines_it_takes(tmp_path):
    environment = quoted(tmp_path, 10)
    assert environment.left_out == (
        "a.csv:11: not valid CSV: unexpected end of data; it takes lines 11 to 61: is a quote not closed?",
    )


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (b'"Say "hi" to\nAnna,Bob\nand Carl,Dora\nplease",3', "not valid CSV: ',' expected after '\"'"),
        (b'""Hello" to\nAnna,Bob\n",3', "not valid CSV: ',' expected after '\"'"),
        (b'"bad \x92 byte\nAnna,Bob\nsaid ""yes""",3', "not valid UTF-8: .*"),
        (b'"' + b"a line, more\n" * 12_000 + b'end",3', "not valid CSV: field larger than field limit (131072)"),
        (b'1?,"bad \x92 byte\nAnna,Bob\nend"', "not valid UTF-8: .*"),
        (b'"Say "hi" to\nAnna,Bob', "not valid CSV: ',' expected after '\"'"),  # up to the next quoted row
    ],
)
def test_lines_of_a_field_that_cannot_be_read_are_no_rows(tmp_path, broken, reason):
    (tmp_path / "a.csv").write_bytes(b"question,answer\n1?,1\n" + broken + b'\n"2?",2\n3?,3\n')
    environment = make(tmp_path, train="a.csv")
    assert questions(environment) == ["1?", "2?", "3?"]
    assert [environment.task("all", i).data["truth"] for i in range(3)] == ["1", "2", "3"]
    (told,) = environment.left_out
    span = f"it takes lines 3 to {3 + broken.count(bytes([10]))}"
    assert re.fullmatch(f"a.csv:3: {reason if '.*' in reason else re.escape(reason)}; {span}.*", told)


def test_a_row_with_a_wrong_quote_that_nothing_closes_ends_with_its_line(tmp_path):
    (tmp_path / "a.csv").write_text('question,answer\n"5" or 7?,1\n2?,2\n"" or 5?,3\n4?,4\n')
    environment = make(tmp_path, train="a.csv")
    assert questions(environment) == ["2?", "4?"]
    assert [line.partition(": ")[0] for line in environment.left_out] == ["a.csv:2", "a.csv:4"]


@pytest.mark.parametrize("line", ["a line of prose without an end", "one, two, three", ""])
def test_prompts_of_many_lines_are_no_rows_run_together(tmp_path, line):
    rows = [{"question": f"{i}:\n" + f"{line}\n" * 30, "answer": "1"} for i in range(4)]
    write_csv(tmp_path / "a.csv", rows)
    assert not make(tmp_path, train="a.csv").warnings


def test_prompts_that_all_hold_tables_are_how_the_data_are(tmp_path):
    rows = [{"question": f"{i}:\n" + "one,two\n" * 30, "answer": "1"} for i in range(4)]
    write_csv(tmp_path / "a.csv", rows)
    assert not make(tmp_path, train="a.csv").warnings


texts = st.text(st.characters(codec="utf-8"), max_size=20)
no_faults = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@no_faults
@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=8))
def test_csv_is_read_back_row_by_row_in_any_order(tmp_path, values):
    rows = [{"a": a, "b": b} for a, b in values]
    file = Csv(write_csv(tmp_path / "x.csv", rows), "x.csv")
    assert [row for _, row in file.rows()] == rows
    assert [file.row(i) for i in reversed(range(len(rows)))] == rows[::-1]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@no_faults
@example([{}, "\x0c"])
@given(st.lists(st.dictionaries(texts, json_values, max_size=3) | st.text(max_size=5), max_size=8))
def test_json_lines_are_read_back_row_by_row_and_none_is_lost(tmp_path, rows):
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    lines = [line.replace("\n", " ") for line in [*lines, "{}"]]  # one object alone may be a whole table
    path = tmp_path / "x.jsonl"
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
    file = JsonLines(path, "x.jsonl")
    found = list(file.rows())
    assert [line for line, _ in found] == [
        n for n, line in enumerate(lines, 1) if line.encode("utf-8", "surrogatepass").strip()
    ]
    for place, (line, row) in enumerate(found):
        if isinstance(row, InvalidRow):
            with pytest.raises(InvalidRow):
                file.row(place)
        else:
            assert row == file.row(place) == json.loads(lines[line - 1])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.jsonl", None, "train: there is no file or folder missing.jsonl in /.*"),
        ("a.json", b'  [{"question": "1"}]', "a.json holds one JSON list.*write one object a line.*jq"),
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS.*git lfs pull"),
        ("a.parquet", b"", "a.parquet cannot be read: .*"),
        ("a.parquet", b"PAR1 and no more", "a.parquet cannot be read: .*"),
        ("a.arrow", b"\xff\xff\xff\xff", "a.arrow cannot be read: .*"),
        ("a.jsonl.gz", b"\x1f\x8b", "a.jsonl.gz is packed by gzip: unpack it .`gunzip -k a.jsonl.gz`"),
        ("a b.jsonl", b"\x1f\x8b", "unpack it .`mv 'a b.jsonl' 'a b.jsonl'.gz && gunzip 'a b.jsonl'.gz`"),
        ("a.jsonl.bz2", bz2.compress(b"{}"), "a.jsonl.bz2 is packed by bzip2: unpack it .`bunzip2 -k a.jsonl.bz2`"),
        ("a.jsonl", bz2.compress(b"{}"), "packed by bzip2: unpack it .`mv a.jsonl a.jsonl.bz2 && bunzip2 a.jsonl.bz2`"),
        ("a.csv", lzma.compress(b"a"), "a.csv is packed by xz: unpack it .`mv a.csv a.csv.xz && unxz a.csv.xz`"),
        ("a.csv", b"\x28\xb5\x2f\xfd", "a.csv is packed by zstd"),
        (
            "a.csv",
            b"PK\3\4\x14\0",
            "a.csv is a zip archive, as tables of Excel are: unpack it, or save the table as CSV",
        ),
        ("a.txt", b"hello", "a.txt is no table.*expected one of .parquet, .jsonl.*unpacked"),
        ("a.jsonl", b"", "its files hold no rows: a.jsonl"),
        ("a.jsonl", b"\n \n", "its files hold no rows: a.jsonl"),
        ("a.csv", b"", "a.csv is empty: expected the names of its columns"),
        ("a.csv", b"frage;antwort\n1;2\n", "has one column, 'frage;antwort': is it separated by semicolons.*: \";\"`"),
        ("a.csv", b"question\tanswer\n1\t2\n", r"separated by tabs\? Then say `delimiter: \"\\t\"`"),
        ("a.tsv", b"question,answer\n1,2\n", 'a.tsv has one column.*by commas.*name it .csv and say `delimiter: ","`'),
        ("a.csv", b"question,answer\n", "its files hold no rows"),
        ("a.csv", b"question,answer\r1,2\r3,4\r", "a.csv ends its lines by CR alone.*write LF.*tr '.r' '.n' < a.csv"),
        ("a.jsonl", b'{"question": "1"}\r{"question": "2"}', "a.jsonl ends its lines by CR alone"),
        ("a b.csv", "question\n1\n".encode("utf-16"), "a b.csv is UTF-16: save it as UTF-8 .`iconv -f UTF-16"),
        ("a.jsonl", '{"question": "1"}'.encode("utf-16-be"), "a.jsonl is UTF-16BE: save it .*`iconv -f UTF-16BE -t"),
        ("a.jsonl", '{"question": "1"}'.encode("utf-16-le"), "a.jsonl is UTF-16LE: save it .*`iconv -f UTF-16LE -t"),
        ("a.csv", "question\n1\n".encode("utf-32-be"), "a.csv is UTF-32BE: save it as UTF-8"),
        ("a.csv", b"\0\0\xfe\xff" + "question\n1\n".encode("utf-32-be"), "a.csv is UTF-32: save it as UTF-8"),
        ("a.json", '{"question": "1"}'.encode("utf-16"), "a.json is UTF-16: save it as UTF-8"),
        ("a.tsv", "question\tb\n1\t2\n".encode("utf-32"), "a.tsv is UTF-32: save it as UTF-8"),
        ("a.jsonl", b'[\n {"question": "1"},', "a.jsonl holds one JSON list.*jq -c '.*' a.jsonl > a.rows.jsonl"),
        ("a.jsonl", b'[{"question": "1"}, {"question": "2"}]', "a.jsonl holds one JSON list"),
        ("a.json", b'{\n  "question": "1",', "a.json holds JSON objects of several lines.*`jq -c . a.json > a.jsonl`"),
        ("a.csv", b"question,answer,question\n1,2,3\n", "a.csv has several columns called 'question'"),
        ("a.csv", b"quest\xff,answer\n1,2\n", "a.csv: its first line.*not valid UTF-8.*`iconv -f WINDOWS-1252"),
        (
            "a.csv",
            b"question,answer\n\xe9,2\n",
            "its one row cannot be used:.*not valid UTF-8.*UTF-8 a.csv > a.utf8.csv`",
        ),
        ("a.jsonl", b'{"question": "\xe9"}\n', "its one row cannot be used:.*not valid UTF-8.*`iconv -f WINDOWS-1252"),
        ("a.jsonl", '{"question": "问"}'.encode("gb18030"), "not valid UTF-8.*`; if Chinese, GB18030"),
        ("a.csv", b"sep=;\nquestion;answer\n1;2\n", "a.csv begins with Excel's line 'sep=;': delete that line"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_words(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(EnvironmentFault, match=f"(?s)environment rows: .*{said}"):
        make(tmp_path, train=name)


@pytest.mark.parametrize(
    ("table", "read"),
    [
        ({"question": {"0": "1?", "7": "2?"}, "answer": {"0": "1", "7": "2"}}, '"a.json"'),
        ({"question": ["1?", "2?"], "answer": ["1", "2"]}, '"a.json"'),
        ({"columns": ["question"], "index": [0], "data": [["1?"]]}, '"a.json", orient="split"'),
        ({"schema": {"fields": []}, "data": [{"question": "1?"}]}, '"a.json", orient="table"'),
    ],
)
def test_json_that_holds_a_table_by_columns_is_refused_with_what_writes_rows(tmp_path, table, read):
    write_jsonl(tmp_path / "a.json", [table])
    with pytest.raises(EnvironmentFault) as refused:
        make(tmp_path, train="a.json")
    said = str(refused.value)
    assert "a.json is one JSON object that holds a whole table by columns" in said
    assert f'`pandas.read_json({read}).to_json("a.rows.jsonl", orient="records", lines=True)`' in said


def test_json_that_holds_its_rows_in_a_list_is_refused_with_what_writes_them(tmp_path):
    write_jsonl(tmp_path / "a.json", [{"version": "1", "data": FLAT}])
    said = r"a.json is one JSON object that holds rows in 'data': .*`jq -c '.\[\"data\"\]\[\]' a.json > a.rows.jsonl`"
    with pytest.raises(EnvironmentFault, match=said):
        make(tmp_path, train="a.json")


def test_one_row_whose_values_are_lists_of_several_lengths_is_a_row(tmp_path):
    row = {"question": [{"role": "user", "content": "1?"}], "answer": "1", "tags": ["a", "b"]}
    assert questions(made(tmp_path, [row])) == ["1?"]


def test_one_row_with_as_many_messages_as_answers_is_a_row(tmp_path):
    row = {"question": [{"role": role, "content": "1?"} for role in ("system", "user")], "answer": ["1", "2"]}
    assert questions(made(tmp_path, [row])) == ["1?"]


def test_one_row_with_a_list_of_options_is_a_row(tmp_path):
    row = {"question": "1?", "answer": "1", "options": [{"text": "a"}, {"text": "b"}]}
    assert questions(made(tmp_path, [row])) == ["1?"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file that cannot be read, even by root")
def test_a_file_that_the_system_does_not_give_out_is_refused_in_words(tmp_path):
    with pytest.raises(EnvironmentFault, match=r"rows: train cannot be read: .*Input/output error"):
        make(tmp_path, train="/proc/self/mem")


def test_what_is_there_and_is_no_file_is_said_to_be(tmp_path):
    (tmp_path / "loop.jsonl").symlink_to("loop.jsonl")
    os.mkfifo(tmp_path / "pipe.jsonl")
    for name, said in (("loop", "a link that leads to no file"), ("pipe", "neither a file nor a folder")):
        with pytest.raises(EnvironmentFault, match=rf"{name}\.jsonl in .* is {said}: name the file itself"):
            make(tmp_path, train=f"{name}.jsonl")


def test_blank_lines_before_the_names_of_csv_do_not_matter(tmp_path):
    (tmp_path / "a.csv").write_text("\n\nquestion,answer\n1?,1\n\n2?,2\n")
    assert questions(make(tmp_path, train="a.csv")) == ["1?", "2?"]


def test_a_file_of_nearly_that_name_is_proposed(tmp_path):
    write_jsonl(tmp_path / "countdown_train.jsonl", FLAT)
    with pytest.raises(EnvironmentFault, match=r"did you mean countdown_train\.jsonl\?"):
        make(tmp_path, train="countdown_trian.jsonl")
    (tmp_path / "inside").mkdir()
    write_jsonl(tmp_path / "inside" / "countdown_train.jsonl", FLAT)
    with pytest.raises(EnvironmentFault, match=r"did you mean inside/countdown_train\.jsonl\?"):
        make(tmp_path, train="inside/countdown_trian.jsonl")
    with pytest.raises(EnvironmentFault, match="patterns are not read: name the folder"):
        make(tmp_path, train="inside/*.jsonl")


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet", "rows.arrow", "rows.feather"])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prompt": "qestion"}, r"nothing at 'qestion'.*did you mean 'question'\? the columns are question, answer"),
        ({"truth": "anser"}, r"nothing at 'anser'.*did you mean 'answer'\? the columns are question, answer"),
        ({"reference": "zzz"}, r"nothing at 'zzz'.*\.\w+:1: the columns are question, answer"),
    ],
)
def test_a_column_that_is_not_there_is_told_with_those_that_are_whatever_the_format(tmp_path, name, options, said):
    WRITERS[name](tmp_path / name, FLAT)
    with pytest.raises(EnvironmentFault, match=said):
        make(tmp_path, train=name, **options)


@pytest.mark.parametrize("reward", ["exact", "choice"])
def test_whole_numbers_of_a_column_with_gaps_are_whole(tmp_path, reward):
    rows = [{"question": f"{n}?", "answer": float(n)} for n in range(3)]
    write_parquet(tmp_path / "a.parquet", [*rows, {"question": "3?", "answer": None}])
    environment = make(tmp_path, train="a.parquet", reward=reward)
    assert [environment.task("all", n).answer for n in range(3)] == (
        ["0", "1", "2"] if reward == "exact" else ["A", "B", "C"]
    )
    assert [environment.score(environment.task("all", 1), said).value for said in ("1", "B")] == (
        [1.0, 0.0] if reward == "exact" else [0.0, 1.0]
    )


def test_a_column_twice_in_parquet_is_refused(tmp_path):
    table = pa.table([pa.array(["1"]), pa.array(["2"])], names=["question", "question"])
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(EnvironmentFault, match="several columns called question"):
        make(tmp_path, train="a.arrow")


@pytest.mark.parametrize(
    ("files", "split", "said"),
    [
        ([], "train", "holds no table: no .parquet"),
        (["train.csv", "train.jsonl"], "train", r"holds .csv and .jsonl: name the files"),
        (["test.jsonl", "train-00000-of-00001.jsonl"], "dev", "has no split 'dev'; it has: test, train"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_in_words(tmp_path, files, split, said):
    (tmp_path / "set").mkdir()
    for name in files:
        WRITERS[f"rows{Path(name).suffix}"](tmp_path / "set" / name, FLAT)
    with pytest.raises(EnvironmentFault, match=f"train: the folder set {said}"):
        make(tmp_path, train="set", split=split)


def test_a_folder_without_rows_says_where_inside_it_rows_are(tmp_path):
    for name in ("gsm8k/main", "gsm8k/socratic", "deep/snapshots/ab12/main", "saved/split"):
        (tmp_path / name).mkdir(parents=True)
        WRITERS["rows.parquet"](tmp_path / name / "train-00000-of-00001.parquet", FLAT)
    (tmp_path / "saved" / "split" / "state.json").write_text("{}")
    (tmp_path / "gsm8k" / "loop").symlink_to(tmp_path / "gsm8k", target_is_directory=True)
    hints = {
        "gsm8k": "; there are rows in gsm8k/main, gsm8k/socratic: name one of them",
        "deep": "; there are rows in deep/snapshots/ab12/main: name that one",
        "saved": "; there are rows in saved/split: name that one",
    }
    for name, hint in hints.items():
        with pytest.raises(EnvironmentFault, match=f"the folder {name} holds no table: .*{hint}$"):
            make(tmp_path, train=name)


def test_a_folder_of_packed_files_or_json_says_to_name_them(tmp_path):
    (tmp_path / "set").mkdir()
    for name in ("README.md", "train.json", "train.jsonl.gz"):
        (tmp_path / "set" / name).write_text("{}")
    with pytest.raises(EnvironmentFault, match=r"there is train.json, train.jsonl.gz: name the files that are meant"):
        make(tmp_path, train="set")


def test_a_saved_folder_names_its_splits_and_misses_its_shards(tmp_path):
    with pytest.raises(EnvironmentFault, match="no split 'validation'; it has: train, test"):
        make(DATA, train="datasets/sums", split="validation")
    (tmp_path / "state.json").write_text('{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}')
    with pytest.raises(EnvironmentFault, match=r"data-00000-of-00001\.arrow is missing"):
        make(tmp_path, train=".")


@pytest.mark.parametrize("state", ['{"epoch": 3}', "[1, 2]", "\u00e9"])
def test_the_state_of_another_program_beside_shards_means_nothing(tmp_path, state):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "state.json").write_text(state, encoding="latin-1")
    write_jsonl(tmp_path / "set" / "train.jsonl", FLAT)
    assert questions(make(tmp_path, train="set")) == ASKED


def test_hidden_files_of_a_folder_are_no_shards(tmp_path):
    (tmp_path / "set").mkdir()
    write_jsonl(tmp_path / "set" / "train.jsonl", FLAT)
    (tmp_path / "set" / "._train.jsonl").write_bytes(b"\0\5\x16\7")
    (tmp_path / "set" / ".train.csv.tmp.csv").write_bytes(b"")
    environment = make(tmp_path, train="set")
    assert questions(environment) == ASKED
    assert environment.remarks == ()


def test_a_shard_of_a_folder_may_be_a_folder_as_spark_writes_one(tmp_path):
    for split, rows in (("train", FLAT[:3]), ("test", FLAT[3:])):
        (tmp_path / "set" / f"{split}.parquet").mkdir(parents=True)
        write_parquet(tmp_path / "set" / f"{split}.parquet" / "part-00000-ab12.snappy.parquet", rows)
        (tmp_path / "set" / f"{split}.parquet" / "_SUCCESS").write_text("")
    assert questions(make(tmp_path, train="set", holdout="set")) == ASKED
    (tmp_path / "set" / "train.parquet" / "part-00000-ab12.snappy.parquet").unlink()
    with pytest.raises(EnvironmentFault, match=r"train: the folder set/train\.parquet holds no table"):
        make(tmp_path, train="set")


def test_an_absolute_path_and_one_below_the_home_folder_are_taken_as_they_are(tmp_path, monkeypatch):
    write_jsonl(tmp_path / "a.jsonl", FLAT)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert questions(make(Path("/nowhere"), train=str(tmp_path / "a.jsonl"))) == ASKED
    assert questions(make(Path("/nowhere"), train="~/a.jsonl")) == ASKED
