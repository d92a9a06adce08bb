"""Curves: means over seeds at the same shares of every stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from store.comparison.curves import SettingCurves, read_curves
from store.ledger import Ledger
from tests.store.comparison.conftest import Compare
from tests.store.comparison.runs import Made, written

Fresh = Callable[[], str]


def test_seeds_are_averaged_and_their_range_is_kept(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    x = fresh()
    written(
        ledger,
        Made(f"{x}0", 0, training=0.4),
        Made(f"{x}1", 1, training=0.8),
        Made(f"{x}b", 0, "repo"),
    )
    drawn = read_curves(ledger.reading, compare(f"{x}0", f"{x}1", f"{x}b"))
    assert (drawn.axis.edges, drawn.axis.names, drawn.axis.is_in_steps) == (
        [0, 4, 8],
        ("book", "words"),
        True,
    )
    curve = drawn.training["rloo"]
    assert [place.x for place in curve] == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5]
    assert [place.mean for place in curve[:4]] == pytest.approx([0.15, 0.3, 0.45, 0.6])
    assert (curve[3].least, curve[3].most) == pytest.approx((0.4, 0.8))


def test_held_out_numbers_stand_at_the_boundaries(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    x = fresh()
    written(ledger, Made(f"{x}a"), Made(f"{x}b", 0, "repo"))
    drawn = read_curves(ledger.reading, compare(f"{x}a", f"{x}b"))
    assert [(p.x, round(p.mean, 6)) for p in drawn.held_out["rloo"]] == [(0, 0), (4, 0.25), (8, 0.5)]
    assert [p.mean for p in drawn.held_out_entropy["rloo"]] == pytest.approx([2, 1.5, 1])


def test_what_a_boundary_left_out_is_there_as_it_was_measured_last(
    ledger: Ledger, compare: Compare, fresh: Fresh
) -> None:
    """Otherwise a mean over those alone that it measured would jump with them: .4 instead of .2."""
    x = fresh()
    accuracy = {"book": 0.2, "words": 0.8}
    written(
        ledger,
        *(Made(f"{x}{of}", 0, of, accuracy=accuracy, looked_at={1: ["words"]}) for of in ("rloo", "repo")),
    )
    drawn = read_curves(ledger.reading, compare(f"{x}rloo", f"{x}repo"))
    assert [p.mean for p in drawn.held_out["rloo"]] == pytest.approx([0, (0 + 0.4) / 2, 0.5])
    assert [p.mean for p in drawn.held_out_entropy["rloo"]] == pytest.approx([2, (2 + 1.5) / 2, 1])


def test_held_out_lines_are_of_the_environments_that_are_compared(
    ledger: Ledger, compare: Compare, fresh: Fresh
) -> None:
    """Not of one that a run lacks, nor of one whose held-out tasks differ, nor of one that is not asked for."""
    x, more = fresh(), {"book": 0.4, "words": 0.6, "maze": 1.0}
    written(ledger, Made(f"{x}a"), Made(f"{x}b", 0, "repo", accuracy=more), Made(f"{x}c", 0, "grpo", other_from=0))

    def drawn(*names: str, **asked: Any) -> SettingCurves:
        return read_curves(ledger.reading, compare(*(f"{x}{name}" for name in names), **asked))

    found = drawn("a", "b", metric="accuracy")
    assert (found.environments, found.num_environments) == (["book", "words"], 3)
    assert [curve[-1].mean for curve in found.held_out.values()] == pytest.approx([0.5, 0.5])
    found = drawn("a", "b", environments=["words"])
    assert (found.environments, found.held_out["rloo"][-1].mean) == (["words"], pytest.approx(0.6))
    found = drawn("a", "c", metric="train_accuracy")
    assert (found.environments, found.held_out["rloo"][-1].mean) == (["words"], pytest.approx(0.6))


def test_stages_of_different_lengths_are_read_at_the_same_shares(
    ledger: Ledger, compare: Compare, fresh: Fresh
) -> None:
    """Both rise evenly to the same end, one in 4 steps and one in 40: so does their mean, whatever the step."""
    x = fresh()
    written(
        ledger,
        Made(f"{x}0", 0, lengths=(4, 4), training=0.8),
        Made(f"{x}1", 1, lengths=(40, 8), training=0.8),
        Made(f"{x}b", 0, "repo"),
    )
    drawn = read_curves(ledger.reading, compare(f"{x}0", f"{x}1", f"{x}b", by=["objective"]))
    assert (drawn.axis.edges, drawn.axis.is_in_steps) == ([0, 1, 2], False)
    first = [place for place in drawn.training["rloo"] if place.x < 1]
    assert len(first) == 40
    for place in first[5:-5]:
        assert place.mean == pytest.approx(0.8 * place.x, abs=0.06)


def test_a_long_run_is_thinned(ledger: Ledger, compare: Compare, fresh: Fresh) -> None:
    x = fresh()
    written(ledger, Made(f"{x}a", lengths=(300,)), Made(f"{x}b", 0, "repo", lengths=(300,)))
    curve = read_curves(ledger.reading, compare(f"{x}a", f"{x}b")).training["rloo"]
    assert len(curve) == 96
    for place in curve[3:-3]:
        assert place.mean == pytest.approx(0.5 * (place.x + 0.5) / 300, abs=0.005)
