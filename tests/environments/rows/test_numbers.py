"""Numbers of rows, for selections that go by them."""

from __future__ import annotations

import numpy as np
import pytest

from environments import EnvironmentFault
from tests.environments.fakes import create
from tests.environments.rows.making import made, make, sums, write_csv, write_jsonl, write_parquet


def rated(n, start=0):
    return [{**row, "rates": {"weak": i / 100}, "odd": i} for i, row in enumerate(sums(n, start), start)]


@pytest.mark.parametrize("write", [write_jsonl, write_parquet], ids=["jsonl", "parquet"])
def test_numbers_come_by_index_whatever_the_format(tmp_path, write):
    name = f"train.{'jsonl' if write is write_jsonl else 'parquet'}"
    write(tmp_path / name, rated(60))
    write(tmp_path / f"held_{name}", rated(20, start=500))
    environment = make(tmp_path, train=name, holdout=f"held_{name}", category="meta.level")
    for category in ("1", "2"):
        numbers = environment.numbers(category, "rates.weak")
        asked = [
            int(environment.task(category, i).messages[0]["content"].split()[2])
            for i in range(environment.size(category))
        ]
        assert numbers.tolist() == [number / 100 for number in asked]
    assert environment.task("1", 0).key, "and tasks can still be made"


def test_numbers_of_csv_are_texts_and_count(tmp_path):
    write_csv(tmp_path / "train.csv", [{**row, "level": "1.5", "meta": ""} for row in sums(9)])
    environment = make(tmp_path, train="train.csv")
    assert environment.numbers("all", "level").tolist() == [1.5] * 9
    with pytest.raises(EnvironmentFault, match="no row has a number at 'meta'; there are: question, answer"):
        environment.numbers("all", "meta")


def test_an_expression_is_a_number_too(tmp_path):
    environment = made(tmp_path, sums(9))
    lengths = [float(len(f"What is {i} + 1?")) for i in range(9)]
    assert environment.numbers("all", "question | length").tolist() == lengths


def test_what_is_missing_is_nan(tmp_path):
    rows = [{**row, **({"level": i} if i % 3 else {"level": None} if i % 2 else {})} for i, row in enumerate(sums(12))]
    numbers = made(tmp_path, ["broken", *rows]).numbers("all", "level")
    assert np.isnan(numbers).tolist() == [i % 3 == 0 for i in range(12)]


@pytest.mark.parametrize(
    ("field", "said"),
    [
        (
            "meta.levle",
            r"rows, category all: no row has a number at 'meta.levle'; did you mean 'meta.level'\?",
        ),
        ("nothing_like_it", "there are: question, answer, meta.level"),
        ("question", "train.jsonl:1: 'question' is no number there"),
        ("meta", "train.jsonl:1: 'meta' is no number there"),
        ("this is no path (", "neither a column path"),
    ],
)
def test_a_field_that_is_not_there_or_no_number_is_refused(tmp_path, field, said):
    with pytest.raises(EnvironmentFault, match=said):
        made(tmp_path, sums(9)).numbers("all", field)


def test_other_environments_have_none():
    assert create("fake").numbers("easy", "level") is None
