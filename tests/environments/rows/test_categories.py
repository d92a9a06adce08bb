from __future__ import annotations

import pytest

from environments import EnvironmentFault
from tests.environments.rows.making import made, make, questions, sums, write_csv, write_jsonl, write_parquet


def rows(*levels):
    return [{"question": f"{i}?", "answer": "1", "level": level} for i, level in enumerate(levels)]


def names(environment):
    return [category.name for category in environment.categories]


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([10, 9, 1], ["1", "9", "10"]),
        (["10", "9", 1.0, 1, "1.5"], ["1", "1.5", "9", "10"]),
        (["10", "9", "b", "a"], ["10", "9", "a", "b"]),
        ([True, False], ["false", "true"]),
        (["-1", "2", "nan", "inf"], ["-1", "2", "inf", "nan"]),
        (["ä/b", "[red]x[/red]", "日本"], ["[red]x[/red]", "ä/b", "日本"]),
    ],
)
def test_categories_are_named_after_values_and_put_in_order(tmp_path, levels, expected):
    assert names(made(tmp_path, rows(*levels), category="level")) == expected


def test_without_an_option_there_is_one_category(tmp_path):
    environment = made(tmp_path, rows(1, 2))
    assert names(environment) == ["all"]
    assert questions(environment) == ["0?", "1?"]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('"long" if question | length > 2 else "short"', ["long", "short"]),
        ("(level + 1) // 2", ["1", "2", "3"]),
        ('"n" ~ level', ["n1", "n2", "n3", "n4", "n5"]),
        ('row["level"] > 2', ["false", "true"]),
    ],
)
def test_an_expression_makes_categories(tmp_path, expression, expected):
    given = [*rows(1, 2, 3, 4, 5), {"question": "long?", "answer": "1", "level": 1}]
    assert names(made(tmp_path, given, category=expression)) == expected


def test_an_expression_that_fails_on_a_row_breaks_it(tmp_path):
    environment = made(tmp_path, rows(1, "a", None), category="level * 2 + 1")
    assert names(environment) == ["3"]
    assert [line.partition(": ")[0] for line in environment.left_out] == ["train.jsonl:2", "train.jsonl:3"]
    assert "fails" in environment.left_out[0]


@pytest.mark.parametrize("write", [write_jsonl, write_csv, write_parquet])
def test_a_column_whose_name_reads_as_an_expression_is_found_whatever_the_format(tmp_path, write):
    rows = [{"question": f"{i}?", "answer": "1", "question-type": "ab"[i % 2], "pass-rate": i / 4} for i in range(4)]
    suffix = write.__name__.removeprefix("write_")
    write(tmp_path / f"a.{suffix}", rows)
    environment = make(tmp_path, train=f"a.{suffix}", category="question-type")
    assert names(environment) == ["a", "b"]
    assert environment.numbers("b", "pass-rate").tolist() == [0.25, 0.75]


def test_a_column_whose_name_has_a_dot_is_found_before_a_path(tmp_path):
    write_csv(tmp_path / "a.csv", [{"question": "a", "answer": "1", "extra.level": "7"}])
    assert names(make(tmp_path, train="a.csv", category="extra.level")) == ["7"]


def test_only_the_categories_named_are_used_in_their_order_and_the_others_counted(tmp_path):
    environment = made(tmp_path, rows(1, 2, 3, 3, None), category="level", categories=[3, 1])
    assert names(environment) == ["3", "1"]
    assert environment.size("3") == 2
    assert "one row left out: of categories that `categories` does not name" in environment.remarks
    assert environment.num_left_out == 1


def test_rows_of_other_categories_may_be_broken_without_notice(tmp_path):
    given = [*rows(1), {"level": 2}, {"level": 2, "question": ""}]
    assert not made(tmp_path, given, category="level", categories=["1"], strict=True).left_out


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (["easy", "ahrd"], "the category 'ahrd' that `categories` names; did you mean 'hard'"),
        (["easy", "x"], "the category 'x' that `categories` names; there are: hard"),
        (["hard", "easy", "x"], "the category 'x' that `categories` names; there are: no others"),
        (["x"], "no row is left to use: 2 rows left out: of categories that `categories` does not name"),
    ],
)
def test_a_category_that_is_not_there_is_refused(tmp_path, wanted, said):
    with pytest.raises(EnvironmentFault, match=said):
        made(tmp_path, rows("hard", "easy"), category="level", categories=wanted)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["easy", "Easy ", "hard"], "'Easy ' and 'easy'"),
        (["2", "2.0", "3"], "'2' and '2.0'"),
        (["G\u00e9o", "Ge\u0301o"], r"'Ge\u0301o' and 'Géo'"),
    ],
)
def test_categories_that_look_the_same_are_told_apart_and_that_is_said(tmp_path, names, told):
    rows = [{**row, "subject": names[i % len(names)]} for i, row in enumerate(sums(60))]
    environment = made(tmp_path, rows, category="subject")
    assert len(environment.categories) == len(names)
    assert environment.warnings[0].startswith(f"categories that look the same are told apart: {told};")
    plain = [{**row, "subject": ["easy", "hard"][i % 2]} for i, row in enumerate(sums(60))]
    assert made(tmp_path, plain, category="subject").warnings == ()


def test_a_column_that_tells_rows_apart_is_no_category(tmp_path):
    with pytest.raises(EnvironmentFault, match=r"more than 1,000 categories \(0, 1, 2, ...\): `category` seems"):
        made(tmp_path, rows(*range(1001)), category="level")
    assert len(made(tmp_path, rows(*range(1000)), category="level").categories) == 1000


def test_a_category_that_is_only_held_out_is_not_trained_on(tmp_path):
    write_jsonl(tmp_path / "test.jsonl", [{**row, "question": f"held {row['question']}"} for row in rows(1, 2)])
    environment = made(tmp_path, rows(1), holdout="test.jsonl", category="level")
    assert [(c.name, c.trainable) for c in environment.categories] == [("1", True), ("2", False)]


def test_a_category_or_row_that_is_not_there_is_said(tmp_path):
    environment = made(tmp_path, rows(1, 2), category="level")
    with pytest.raises(EnvironmentFault, match="rows has no category '3'; it has: 1, 2"):
        environment.size("3")
    with pytest.raises(EnvironmentFault, match="category '1' has no row 1, only 1"):
        environment.task("1", 1)
