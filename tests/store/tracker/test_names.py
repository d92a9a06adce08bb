from __future__ import annotations

import pytest

from store.ledger.query_rows import MetricRow
from store.tracker.names import of_category, of_environment, of_matrix, of_step, slug
from store.tracker.record import mind_manners

HOSTILE = (
    "a/b", "a//b", "a b", "b.c", "..", ".", "", " ", "/", "a/", "@", "=", "(x)", "[x]", "50%", "a,b", "größe", "例",
    "x" * 300, "<script>alert(1)</script>", "[link](http://x)", "new\nline", "nul\0", "half \ud800", "a:b", "a\\b",
    "Level 3", "-", "_x", "system/", "'; DROP TABLE runs; --",
)  # fmt: skip


@pytest.mark.parametrize("text", ["words", "gcd-30", "v1.2_b", "3", "A"])
def test_a_usual_name_stays_as_it_is(text: str) -> None:
    assert slug(text) == text


@pytest.mark.parametrize("text", HOSTILE)
def test_mlflow_takes_every_name(text: str) -> None:
    mind_manners()
    from mlflow.utils.validation import _validate_metric

    (of_part,) = (name for name, _ in of_step([MetricRow(1, f"part_a{text}", None, None, 0.5, 1)]))
    names = (
        of_environment("R_pass_1", text),
        of_category("signal", text, text),
        of_matrix(f"own_{text}", text),
        of_part,
    )
    for name in names:
        _validate_metric(name, 0.5, 0, 0)
    for name in names[:2]:
        assert name.count("/") == 1
        assert name.isascii()


@pytest.mark.parametrize("metric", ["part_tests passed", "own_a/b", "part_a: b", "own_größe"])
def test_a_metric_of_ones_own_keeps_a_name_that_mlflow_takes(metric: str) -> None:
    """A record that goes on has one series and not two."""
    assert list(of_step([MetricRow(1, metric, None, None, 0.5, 1)])) == [(f"train/{metric}", 0.5)]
    assert of_matrix(metric, "red") == f"R_{metric}/red"


def test_different_pairs_have_different_names() -> None:
    texts = (*HOSTILE, "a", "a.b", "b", "c", "b_c", "a_b", "b c")
    pairs = {(environment, category) for environment in texts for category in texts}
    assert len({of_category("reward", *pair) for pair in pairs}) == len(pairs)
    assert len({of_environment("reward", text) for text in texts}) == len(texts)
