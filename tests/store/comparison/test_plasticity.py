"""Runs compared by what they can still learn, keep and lose: the one rule decides here too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from store.comparison.curves import read_curves
from store.comparison.page import render
from store.comparison.sentences import sentence
from store.errors import ComparisonError
from store.ledger import Ledger
from store.records import CellRecord, ItemRecord, NetworkRecord, ProbePoint, ProbeRecord
from tests.store.comparison.conftest import Compare
from tests.store.comparison.runs import ENVIRONMENTS, Made, written
from tests.store.report.pages import Page

Looks = Callable[[int], dict[str, Any]]
BASE_GAIN = 0.4


def looks(gain: float, seed: int, steps: int = 20) -> Looks:
    """What boundaries recorded of a policy whose copies still gain so much; it keeps entropy and units likewise."""

    def of(after_stage: int) -> dict[str, Any]:
        end = BASE_GAIN if after_stage == 0 else gain + 0.01 * seed
        points = [ProbePoint(step, "probe_score", 0.1 + end * step / steps) for step in (0, steps // 2, steps)]
        fixed = 1.0 if after_stage == 0 else gain + 0.01 * seed
        kept = after_stage == 0 or gain > 0.2
        return {
            "cells": [CellRecord(name, None, "entropy_fixed", fixed, None, 8, 4) for name in ENVIRONMENTS],
            "probes": [ProbeRecord("rl", "far", 0, {"steps": steps}, 1.0, points)] if after_stage in (0, 2) else [],
            "network": [NetworkRecord("dormant_0.025", after_stage * (0.5 - gain) / 2)],
            "items": [
                ItemRecord("book", "easy", f"task {k}", 4, 4 if kept or k > seed else 0, 1.0, 1.0, 4) for k in range(10)
            ],
        }

    return of


@pytest.fixture(scope="module")
def names(ledger: Ledger) -> list[str]:
    """Six pairs of runs: `repo` keeps what `rloo` loses."""
    runs = [
        Made(f"plastic-{objective}-{seed}", seed, objective, more=looks(gain, seed))
        for seed in range(6)
        for objective, gain in (("rloo", 0.1), ("repo", 0.3))
    ]
    written(ledger, *runs)
    return [run.name for run in runs]


@pytest.mark.parametrize(
    ("metric", "verdict", "score"),
    [
        ("trainability_rl", "better", (0.3 + 0.025) / BASE_GAIN),
        ("dormant", "better", 0.2),
        ("fixed_carried", "more entropy", None),
        ("lost_tasks", "better", 0.0),
    ],
)
def test_the_rule_decides(compare: Compare, names: list[str], metric: str, verdict: str, score: float | None) -> None:
    found = compare(*names, metric=metric, baseline="rloo")
    (pair,) = found.pairs
    assert pair.verdict == verdict, sentence(pair)
    if score is not None:
        assert {one.label: one.mean for one in found.settings}["repo"] == pytest.approx(score)


def test_trainability_is_by_probe_and_told_with_the_start(compare: Compare, names: list[str]) -> None:
    found = compare(*names, metric="trainability_rl")
    assert found.strata == ["far"]
    assert found.warnings == [
        "A lower start leaves more to gain; the copies start so: rloo at .10 (base .10) and repo at .10 (base .10)."
    ]
    assert not compare(*names, metric="dormant").warnings


def test_runs_without_probes_cannot_be_compared_by_them(ledger: Ledger, compare: Compare) -> None:
    written(ledger, Made("bare-0"), Made("bare-1", objective="repo"))
    with pytest.raises(ComparisonError, match="no trainability_rl to compare: bare-0 and bare-1 have none"):
        compare("bare-0", "bare-1", metric="trainability_rl")


def test_probes_of_other_settings_are_refused(ledger: Ledger, compare: Compare) -> None:
    runs = [Made(f"long-{steps}", 0, f"o{steps}", more=looks(0.3, 0, steps)) for steps in (20, 40)]
    written(ledger, *runs)
    with pytest.raises(ComparisonError, match="long-20 and long-40 have rl probes of far with other settings"):
        compare("long-20", "long-40", metric="trainability_rl")


def test_the_page_draws_the_probes_of_every_setting(ledger: Ledger, compare: Compare, names: list[str]) -> None:
    found = compare(*names)
    (probe,) = read_curves(ledger.reading, found).probes
    assert [(place.x, pytest.approx(place.mean)) for place in probe.base] == [(0, 0.1), (10, 0.3), (20, 0.5)]
    assert probe.now["repo"][-1].mean == pytest.approx(0.1 + 0.3 + 0.025)
    page = Page(render(ledger.reading, found))
    assert "What probes learn after the last stage" in page.text
    assert page.bare == []
