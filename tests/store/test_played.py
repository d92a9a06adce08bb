from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from store.ledger import Ledger
from store.records import MetricRecord, StepRecord
from store.run_summary import batch_rows, compact, environment_columns, environment_rows, played
from tests.store.ledger import example


def with_numbers(record: Any) -> Any:
    """Two steps on words, with numbers that differ, and one category's, which must not count."""
    if not isinstance(record, StepRecord):
        return record
    numbers = [
        MetricRecord("sampler_gap_mean", record.step * 1e-7),
        MetricRecord("truncated_frac", 0.5 if record.step == 1 else 0.0, "words", n=8),
        MetricRecord("truncated_frac", 1.0, "words", "3", n=8),
        MetricRecord("response_len", 4.0, "words", n=8),
        *([MetricRecord("response_len", 6.0, "gcd", n=8)] if record.step > 3 else []),
    ]
    return replace(record, metrics=numbers)


def test_means_and_largest_over_all_steps_of_the_batch_and_by_environment() -> None:
    with Ledger.open("sqlite://") as ledger:
        example.write(ledger, "puzzles", with_numbers)
        example.write(ledger, "another")
        facts = played(ledger.reading, "puzzles")
    gap = facts["batch"]["sampler_gap_mean"]
    assert gap["mean"] == pytest.approx(3.5e-7)
    assert gap["largest"] == pytest.approx(6e-7)
    assert list(facts["environments"]) == ["words", "gcd"]
    assert facts["environments"]["words"]["truncated_frac"] == {"mean": pytest.approx(1 / 12), "largest": 0.5}
    assert batch_rows(facts) == [("gap of log-probs to the learner, nats", "4e-07", "6e-07")]
    assert list(environment_columns(facts)) == ["truncated_frac", "response_len"]
    assert environment_rows(facts) == [("words", ["8.3%", "4"]), ("gcd", ["-", "6"])]


def test_a_run_that_has_not_begun_was_not_played() -> None:
    with Ledger.open("sqlite://") as ledger:
        example.begin(ledger, "puzzles")
        facts = played(ledger.reading, "puzzles")
    assert facts == {"batch": {}, "environments": {}}
    assert batch_rows(facts) == environment_rows(facts) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (2.9e-7, "3e-07"),
        (0.0042, ".0042"),
        (-0.5, "-.5"),
        (0.31234, ".312"),
        (1.0, "1"),
        (12.43, "12.4"),
        (18300.2, "18,300"),
    ],
)
def test_numbers_of_any_size_fit_a_narrow_column(value: float, text: str) -> None:
    assert compact(value) == text
