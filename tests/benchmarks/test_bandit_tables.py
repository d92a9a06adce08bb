"""When a number of a published table counts as made again."""

from __future__ import annotations

import pytest

from benchmarks.bandit_tables import Found, Published, allowed, compare, count, in_markdown
from orchestrator.simulation.ranking import RankedValue

TABLE = {
    "section": "8.3",
    "name": "Scenario A",
    "world": "skills",
    "tolerance": {"auc": 0.005, "final": 0.02},
    "rows": [
        {"policy": "plain |", "bandit": "uniform", "published": {"auc": [0.571, 0.001], "final": 0.83}},
        {"policy": "known", "bandit": "uniform", "differs": "because", "published": {"auc": 0.9}},
    ],
}


@pytest.mark.parametrize(
    ("ours", "half", "published", "is_outside"),
    [
        (0.576, 0.001, [0.571, 0.001], False),  # at the tolerance
        (0.577, 0.001, [0.571, 0.001], True),
        (0.590, 0.020, [0.571, 0.001], False),  # the seeds do not tell the two apart
        (0.590, 0.015, 0.571, False),  # an interval that was not published is taken to be like ours
        (0.550, 0.001, [0.571, 0], True),
    ],
)
def test_a_number_is_outside_beyond_tolerance_and_interval(
    ours: float, half: float, published: float | list[float], is_outside: bool
) -> None:
    assert Found(RankedValue(ours, half), Published.read(published), 0.005).is_outside is is_outside


def test_a_tolerance_may_be_a_share() -> None:
    assert allowed("15 %", 800) == pytest.approx(120)
    assert allowed(0.02, 800) == 0.02


def test_rows_known_to_differ_are_shown_and_counted_apart() -> None:
    found = compare([TABLE], range(2), 1)
    assert count([TABLE], found) == (0, 1, 0, 3)
    text = in_markdown(TABLE, found[0], 2)
    assert "| plain \\| | 0.5" in text
    assert "known: because." in text
    assert text.count(" !") == 1
