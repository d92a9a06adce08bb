"""How lists with an entry a sample stand in the ledger: short, exact, and readable where they are JSON."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import sqlite

from store.ledger.tables import Entries

KIND, DIALECT = Entries(), sqlite.dialect()


def written(value: Any) -> str:
    text = KIND.process_bind_param(value, DIALECT)
    assert text is not None
    return text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([None] * 8, "8*null"),
        (["stop"] * 3, '3*"stop"'),
        ([False, True, True, False], "0110[false,true]"),
        ([0.0, 1.0, None, 0.0, 1.0, 1.0], "012011[0.0,1.0,null]"),
        ([0, 0.0, False, 0], "[0,0.0,false,0]"),
        ([17, 4], "[17,4]"),
        ([], "[]"),
        (["a*b[", "a*b[", "1", "1"], '0011["a*b[","1"]'),
        (["3*null"], '1*"3*null"'),
    ],
)
def test_what_is_alike_is_written_once(value: list[Any], text: str) -> None:
    assert written(value) == text
    assert KIND.process_result_value(text, DIALECT) == value


entries = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


@given(
    st.lists(entries, max_size=40)
    | st.lists(st.sampled_from([None, True, 1, 1.0, "1", 0.0, -0.0, "*", "["]), max_size=40)
)
def test_every_list_comes_back_as_it_was(value: list[Any]) -> None:
    found = KIND.process_result_value(written(value), DIALECT)
    assert list(map(repr, found)) == list(map(repr, value))
    assert KIND.process_result_value(json.dumps(value), DIALECT) == value, "as older ledgers have it"


def test_what_is_no_number_is_one_of_the_entries() -> None:
    found = KIND.process_result_value(written([math.nan, 1.0, math.nan, 1.0]), DIALECT)
    assert [math.isnan(value) for value in found] == [True, False, True, False]
